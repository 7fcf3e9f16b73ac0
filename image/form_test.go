package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/internal/form"
	"github.com/kimg/kimg/internal/steps/goldentest"
	"github.com/kimg/kimg/internal/units"
)

// formTree is a tree with all that an archive may have: owners, devices, hard links, a capability.
func formTree(t *testing.T) Tree {
	t.Helper()
	owned := change(reg("./etc/owned", "odd"), func(h *tar.Header) { h.Uid, h.Gid, h.Mode = 1000, 33, 0o4751 })
	device := change(item{entry("./dev/null", tar.TypeChar, ""), ""}, func(h *tar.Header) {
		h.Devmajor, h.Devminor, h.Mode = 1, 3, 0o666
	})
	capable := change(reg("./usr/bin/ping", "elf"), func(h *tar.Header) {
		h.PAXRecords = map[string]string{xattrPrefix + "security.capability": "\x01\x00\x00\x02"}
	})
	b := makeTar(t, base(dir("./dev"), device, owned, hardlink("./etc/a-link", "./etc/owned"), dir("./sbin"),
		dir("./usr"), dir("./usr/bin"), capable, symlink("./bin", "usr/bin"),
		reg("./etc/fstab", fstab), reg("./etc/empty", ""))...)
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

// cpioEntry is an entry of an archive as the kernel reads it.
type cpioEntry struct {
	name, data                                string
	ino, mode, uid, gid, nlink, mtime         int64
	size, major, minor, rmajor, rminor, check int64
}

// readCpio reads the form newc by the kernel's buffer-format.rst.
func readCpio(t *testing.T, b []byte) (list []cpioEntry) {
	t.Helper()
	at := 0
	take := func(n int) string {
		if at+n > len(b) {
			t.Fatalf("the archive ends at %d, and %d bytes more are due", at, n)
		}
		s := string(b[at : at+n])
		at += n
		return s
	}
	align := func() { take((4 - at%4) % 4) }
	for {
		if magic := take(6); magic != "070701" {
			t.Fatalf("at %d: no magic number but %q", at, magic)
		}
		var e cpioEntry
		var size, namesize int64
		for _, field := range []*int64{&e.ino, &e.mode, &e.uid, &e.gid, &e.nlink, &e.mtime, &size, &e.major, &e.minor,
			&e.rmajor, &e.rminor, &namesize, &e.check} {
			v, err := strconv.ParseInt(take(8), 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			*field = v
		}
		e.name = strings.TrimSuffix(take(int(namesize)), "\x00")
		align()
		e.size, e.data = size, take(int(size))
		align()
		if e.name == "TRAILER!!!" {
			if at != len(b) {
				t.Errorf("%d bytes behind the end", len(b)-at)
			}
			return list
		}
		list = append(list, e)
	}
}

func initramfs(t *testing.T, m Maker) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rootfs.cpio.gz")
	spec := DiskSpec{Form: Initramfs, Epoch: epoch}
	if err := m.MakeDisk(t.Context(), spec, formTree(t), file); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if !z.ModTime.IsZero() || z.Name != "" {
		t.Errorf("its header tells of %v and %q", z.ModTime, z.Name)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestInitramfs(t *testing.T) {
	var said []string
	b := initramfs(t, Maker{Warn: func(s string) { said = append(said, s) }})
	got := map[string]cpioEntry{}
	for _, e := range readCpio(t, b) {
		if _, twice := got[e.name]; twice {
			t.Errorf("%s comes twice", e.name)
		}
		got[e.name] = e
	}
	for name, want := range map[string]string{
		".":           "40755 0:0 0:0 2 ",
		"dev/null":    "20666 0:0 1:3 1 ",
		"etc/a-link":  "104751 1000:33 0:0 2 odd",
		"etc/owned":   "104751 1000:33 0:0 2 ",
		"bin":         "120777 0:0 0:0 1 usr/bin",
		"init":        "120777 0:0 0:0 1 sbin/init",
		"etc/fstab":   "100644 0:0 0:0 1 # <file system>	<mount point>	<type>	<options>	<dump>	<pass>\n",
		"etc/empty":   "100644 0:0 0:0 1 ",
		"etc/systemd": "40755 0:0 0:0 2 ",
		"etc/systemd/system/serial-getty@ttyS0.service.d/autologin.conf": "100644 0:0 0:0 1 " + autologin,
	} {
		e, ok := got[name]
		is := fmt.Sprintf("%o %d:%d %d:%d %d %s", e.mode, e.uid, e.gid, e.rmajor, e.rminor, e.nlink, e.data)
		if !ok || is != want {
			t.Errorf("%s is %q, want %q", name, is, want)
		}
		if e.mtime > epoch.Unix() {
			t.Errorf("%s has the time %v", name, time.Unix(e.mtime, 0))
		}
	}
	if got["etc/a-link"].ino != got["etc/owned"].ino || got["etc/owned"].ino == got["etc/empty"].ino {
		t.Error("a hard link is another file, or another file is one")
	}
	if len(said) != 1 || !strings.Contains(said[0], "/usr/bin/ping") {
		t.Errorf("of the lost capability: %q", said)
	}
	digest := units.DigestOf(b)
	goldentest.Check(t, "testdata/initramfs.golden", "image.FormVersion", FormVersion, string(digest), *update)
}

// What a form's root is mounted by is its own; a table of the user's stays.
func TestFormedFstab(t *testing.T) {
	for _, c := range []struct {
		form       Form
		text, want string
	}{
		{"btrfs", fstab, "LABEL=kimg-root	/	btrfs	defaults	0	0\n"},
		{form.Squashfs, fstab, "<pass>\n"},
		{"btrfs", "mine\n", "mine\n"},
	} {
		b := makeTar(t, base(reg("./etc/fstab", c.text))...)
		tree, err := formed(bytes.NewReader(b), c.form, Arch{}, epoch)
		if err != nil {
			t.Fatal(err)
		}
		defer tree.close()
		got, err := tree.content(tree.nodes["etc/fstab"])
		if err != nil || !strings.HasSuffix(string(got), c.want) || strings.Contains(string(got), "ext4") {
			t.Errorf("%s: %q, %v", c.form, got, err)
		}
		if over := tree.nodes["usr/lib/kimg/overlay"]; (over != nil) != c.form.Overlaid() {
			t.Errorf("%s: overlay %v", c.form, over)
		}
	}
}

// A file that an initramfs has no number for is refused, and nothing is left.
func TestInitramfsTooLarge(t *testing.T) {
	c := &cpioWriter{w: io.Discard}
	if err := c.header("x", &node{}, 0, 1, 1, maxCpioFile+1); err == nil {
		t.Error("5 GiB are taken")
	}
}
