package image

import (
	"archive/tar"
	"bytes"
	"flag"
	"io"
	"io/fs"
	"testing"
	"time"

	"github.com/kimg/kimg/internal/steps/goldentest"
	"github.com/kimg/kimg/internal/units"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestRootfsGolden: what is done to a tree is in no key but by RootfsVersion.
func TestRootfsGolden(t *testing.T) {
	raw := makeTar(t, base(
		dir("./usr"), dir("./usr/bin"), change(reg("./usr/bin/ping", "elf"), func(h *tar.Header) {
			h.Mode, h.PAXRecords = 0o4755, map[string]string{
				xattrPrefix + "security.capability": "\x01\x00\x00\x02", xattrPrefix + "security.selinux": "label",
			}
		}),
		hardlink("./usr/bin/ping4", "./usr/bin/ping"), symlink("./bin", "usr/bin"),
		change(reg("./etc/hostname", "laptop\n"), func(h *tar.Header) { h.ModTime = epoch.Add(time.Hour) }),
		change(reg("./etc/old", "old"), func(h *tar.Header) { h.ModTime = time.Unix(-5, 7) }),
		dir("./var"), dir("./var/log"), reg("./var/log/dpkg.log", "times\n"), reg("./var/log/lastlog", "times\n"),
		dir("./var/log/apt"), reg("./var/log/apt/history.log", "times\n"),
		dir("./debootstrap"), reg("./debootstrap/debootstrap.log", "log\n"),
		reg("./etc/shadow-", shadowLine), dir("./tmp"), reg("./tmp/x", "x"),
		dir("./usr/lib"), dir("./usr/lib/__pycache__"), reg("./usr/lib/__pycache__/a.pyc", "code"),
	)...)
	files := func(func(string) bool) []File {
		return []File{
			{Path: "/etc/hostname", Mode: 0o644, Data: []byte("kimg\n")},
			{Path: "/mnt", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
			{Path: "/etc/systemd/system/x.service", Link: "/dev/null"},
			{Path: "/dev/null", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Major: 1, Minor: 3},
		}
	}
	var tree bytes.Buffer
	if err := Normalise(bytes.NewReader(raw), &tree,
		Normalisation{Epoch: epoch, Spool: t.TempDir(), Files: files}); err != nil {
		t.Fatal(err)
	}
	digest := units.DigestOf(tree.Bytes())
	goldentest.Check(t, "testdata/rootfs.golden", "image.RootfsVersion", RootfsVersion, string(digest), *update)
}

// TestModulesGolden: how modules come into an image is in no key but by DiskVersion.
func TestModulesGolden(t *testing.T) {
	open := func(items ...item) func() (io.ReadCloser, error) {
		b := makeTar(t, items...)
		return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
	}
	merged, err := WithModules(
		open(base(dir("./usr"), dir("./usr/lib"), symlink("./lib", "usr/lib"))...),
		open(dir("lib/modules/6.1"), reg("lib/modules/6.1/x.ko", "elf")), epoch)()
	if err != nil {
		t.Fatal(err)
	}
	defer merged.Close()
	digest, _, err := units.DigestReader(merged)
	if err != nil {
		t.Fatal(err)
	}
	goldentest.Check(t, "testdata/modules.golden", "image.DiskVersion", DiskVersion, string(digest), *update)
}
