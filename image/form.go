package image

import (
	"archive/tar"
	"context"
	_ "embed"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/kimg/kimg/internal/guest"
	"github.com/kimg/kimg/internal/units"
)

// formFstab is /etc/fstab of a root that is no ext4. A root that is in memory, or has memory laid over, has no line:
// there is nothing to mount anew.
func formFstab(f Form) string {
	head, _, _ := strings.Cut(fstab, "LABEL=")
	if f.ReadOnly() {
		return head
	}
	return head + fmt.Sprintf("LABEL=%s	/	%s	defaults	0	0\n", RootLabel, f)
}

// formFiles are what a form adds to a tree.
func formFiles(f Form, a Arch) []File {
	files := []File{{Path: fmt.Sprintf(autologinPath, archOr(a).Console), Mode: 0o644, Data: []byte(autologin)}}
	switch {
	case f == Initramfs: // the first program that the kernel looks for in one
		files = append(files, File{Path: "/init", Link: "sbin/init"})
	case f.Overlaid():
		files = append(files, File{Path: guest.Overlay, Mode: 0o755, Data: guest.OverlayScript()})
	}
	return files
}

// formed reads the tar of a normalised tree and lays over it what a form needs. An /etc/fstab that is not kimg's own
// stays as it is.
func formed(r io.Reader, f Form, a Arch, epoch time.Time) (_ *tree, err error) {
	t, err := readTar(r, "")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	if n := t.nodes["etc/fstab"]; n != nil && n.typ == tar.TypeReg && n.size == int64(len(fstab)) {
		b, err := t.content(n)
		if err != nil {
			return nil, err
		}
		if string(b) == fstab {
			n.setContent([]byte(formFstab(f)))
		}
	}
	epoch = epoch.UTC().Truncate(time.Second)
	for _, file := range formFiles(f, a) {
		n, err := file.node(epoch)
		if err == nil {
			err = t.put(n)
		}
		if err != nil {
			return nil, err
		}
	}
	return t, nil
}

// makeForm makes a root filesystem that is no ext4. On an error there is no file.
func (m Maker) makeForm(ctx context.Context, spec DiskSpec, base Tree, file string) error {
	var t *tree
	if err := base.read(func(r io.Reader) (err error) {
		t, err = formed(r, spec.Form, spec.Arch, spec.Epoch)
		return err
	}); err != nil {
		return err
	}
	defer t.close()
	if spec.Form == Initramfs {
		return m.makeInitramfs(ctx, t, file)
	}
	return m.makeFileSystem(ctx, spec, t, file)
}

// FormVersion is DiskVersion for what is no ext4.
const FormVersion = "1"

// FormInputs is DiskInputs for a form.
func FormInputs(f Form, a Arch) Digest {
	var b strings.Builder
	fmt.Fprintf(&b, "%q\n", formFstab(f))
	for _, x := range formFiles(f, a) {
		fmt.Fprintf(&b, "%q %o %q %q\n", x.Path, x.Mode, x.Data, x.Link)
	}
	if f != Initramfs {
		fmt.Fprintf(&b, "%q\n", fileSystemArgs(DiskSpec{Form: f, Size: 1 << 30, Epoch: time.Unix(0, 0)}))
	}
	return units.DigestOf([]byte(b.String()))
}
