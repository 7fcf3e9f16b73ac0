package form

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/needs"
)

func TestTable(t *testing.T) {
	for _, r := range table {
		f := r.form
		var again Form
		text, err := f.MarshalText()
		if err := errors.Join(err, again.UnmarshalText(text)); err != nil || again != f {
			t.Errorf("%s is read as %s, %v", f, again, err)
		}
		if len(f.Boot()) < 2 || f.OnDisk() != (r.magic != "") || f.Sized() == f.ReadOnly() {
			t.Errorf("%s: %+v", f, r)
		}
		if f.OnDisk() != slices.ContainsFunc(f.Boot(), func(n needs.Need) bool { return n.What == needs.Disk.What }) {
			t.Errorf("%s: a disk, and none to boot from, or the other way round", f)
		}
		if f.Sized() != (len(f.Fsck()) > 0) {
			t.Errorf("%s: its fsck is %q", f, f.Fsck())
		}
		// What a kernel is asked for is what it needs.
		on := func(symbol string) string {
			if slices.Contains(f.Symbols(), symbol) {
				return "y"
			}
			return "n"
		}
		for _, n := range f.Boot() {
			if l := n.Lack(on); l != nil && n.What != needs.Disk.What && n.What != needs.Programs.What && f != Ext4 {
				t.Errorf("%s asks for too little to %s: %s", f, n.What, l.Why())
			}
		}
	}
	if _, err := Parse("initramfs"); err == nil || !strings.Contains(err.Error(), "want ext4, squashfs") {
		t.Errorf("an initramfs as a file system: %v", err)
	}
	if len(Ext4.Symbols()) > 0 {
		t.Errorf("ext4 asks for %q, and moves every key", Ext4.Symbols())
	}
}

func TestOf(t *testing.T) {
	if _, err := Of(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing is a root filesystem: %v", err)
	}
	for _, r := range table {
		dir := t.TempDir()
		data := append(make([]byte, r.at), r.magic...)
		if err := os.WriteFile(filepath.Join(dir, r.form.File()), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := Of(dir); err != nil || got != r.form {
			t.Errorf("%s is taken for %s, %v", r.form, got, err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, artifact.Disk), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Of(dir); err != nil || got != Ext4 {
		t.Errorf("an empty disk: %s, %v", got, err)
	}
}
