package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/kimg/kimg/ext4"
)

// compare reads the image back, with a reader that shares no code with the tools
// that wrote it, and holds it against the tar that it was made from and the edits
// after that. mke2fs only warns about what it could not take along.
func compare(file string, tree io.Reader, edits []ext4.Edit) error {
	if err := ext4.Verify(file, edits); err != nil {
		return err
	}
	img, err := ext4.Open(file)
	if err != nil {
		return err
	}
	defer img.Close()
	tr := tar.NewReader(tree)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := cleanName(h.Name)
		if err == nil {
			err = compareFile(img, name, h, tr)
		}
		if err != nil {
			return fmt.Errorf("/%s: %w", name, err)
		}
	}
}

func compareFile(img *ext4.Image, name string, h *tar.Header, content io.Reader) error {
	st, err := img.Lstat(name)
	if err != nil {
		return err
	}
	s := st.Sys().(*ext4.Stat)
	if h.Typeflag == tar.TypeLink {
		to, err := cleanName(h.Linkname)
		if err != nil {
			return err
		}
		other, err := img.Lstat(to)
		if err != nil {
			return err
		}
		if other.Sys().(*ext4.Stat).Inode != s.Inode {
			return fmt.Errorf("is not a hard link to /%s", to)
		}
		return nil
	}
	want := h.FileInfo().Mode()
	switch {
	case st.Mode() != want && h.Typeflag != tar.TypeSymlink, st.Mode().Type() != want.Type():
		return fmt.Errorf("has mode %v, want %v", st.Mode(), want)
	case int(s.UID) != h.Uid || int(s.GID) != h.Gid:
		return fmt.Errorf("belongs to %d:%d, want %d:%d", s.UID, s.GID, h.Uid, h.Gid)
	case want&fs.ModeDevice != 0 && (int64(s.Major) != h.Devmajor || int64(s.Minor) != h.Devminor):
		return fmt.Errorf("is device %d:%d, want %d:%d", s.Major, s.Minor, h.Devmajor, h.Devminor)
	case !st.ModTime().Equal(h.ModTime.Truncate(time.Second)):
		return fmt.Errorf("has the time %v, want %v", st.ModTime(), h.ModTime)
	}
	if err := compareXattrs(img, name, h); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeSymlink:
		if to, err := img.ReadLink(name); err != nil || to != h.Linkname {
			return errors.Join(err, fmt.Errorf("leads to %q, want %q", to, h.Linkname))
		}
	case tar.TypeReg:
		f, err := img.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		return sameBytes(f, content)
	}
	return nil
}

func compareXattrs(img *ext4.Image, name string, h *tar.Header) error {
	got, err := img.Xattrs(name)
	if err != nil {
		return err
	}
	for k, v := range h.PAXRecords {
		if a, ok := strings.CutPrefix(k, xattrPrefix); ok && string(got[a]) != v {
			return fmt.Errorf("attribute %s is %q, want %q", a, got[a], v)
		}
	}
	return nil
}

// errDiffers is the answer to contents that are not the same.
var errDiffers = errors.New("its content differs")

func sameBytes(got, want io.Reader) error {
	a, b := make([]byte, 256<<10), make([]byte, 256<<10)
	for {
		n, gerr := io.ReadFull(got, a)
		m, werr := io.ReadFull(want, b)
		if !bytes.Equal(a[:n], b[:m]) {
			return errDiffers
		}
		ended := func(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
		switch {
		case gerr != nil && !ended(gerr):
			return gerr
		case werr != nil && !ended(werr):
			return werr
		case ended(gerr) || ended(werr):
			return nil
		}
	}
}
