package toolbox

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kimg/kimg/internal/artifact"
)

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestIndexIsKeptWhole(t *testing.T) {
	parent, out := filepath.Join(t.TempDir(), "gdb-index"), t.TempDir()
	vmlinux := filepath.Join(out, artifact.Vmlinux)
	write(t, vmlinux, "a kernel")

	x := openIndex(parent, vmlinux)
	if x == nil || x.fill == nil {
		t.Fatalf("the first one is %+v, want room for one", x)
	}
	write(t, filepath.Join(x.dir, "abc.gdb-index"), "an index")
	write(t, filepath.Join(x.dir, "abc.gdb-index-Xy1"), "half of one") // of a gdb that was killed
	x.close()

	killed := filepath.Join(parent, runPrefix+"1")
	leave(t, killed)

	x = openIndex(parent, vmlinux)
	if _, err := os.Stat(killed); err == nil {
		t.Error("what a killed one left is there still")
	}
	if x == nil || x.fill != nil {
		t.Fatalf("the second one is %+v, want what the first wrote", x)
	}
	kept := filepath.Join(x.dir, "abc.gdb-index")
	if text, err := os.ReadFile(kept); err != nil || string(text) != "an index" {
		t.Errorf("it holds %q (%v)", text, err)
	}
	x.close()

	for _, damage := range []func() error{
		func() error { return os.WriteFile(kept, []byte("an indeX"), 0o600) },
		func() error { return os.Truncate(kept, 3) },
		func() error { return os.Remove(kept) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		x = openIndex(parent, vmlinux)
		if x == nil || x.fill == nil {
			t.Fatalf("a damaged one is shown to gdb: %+v", x)
		}
		write(t, filepath.Join(x.dir, "abc.gdb-index"), "an index")
		x.close()
	}

	write(t, vmlinux, "another kernel")
	if x = openIndex(parent, vmlinux); x == nil || x.fill == nil {
		t.Errorf("another vmlinux gets the same: %+v", x)
	}
	x.close() // with nothing written
	left, _ := os.ReadDir(parent)
	if len(left) != 1 {
		t.Errorf("left are %v, want the one index", left)
	}
}

func TestIndexesAreBounded(t *testing.T) {
	parent, vmlinux := t.TempDir(), filepath.Join(t.TempDir(), artifact.Vmlinux)
	add := func(kernel string, age time.Duration) {
		write(t, vmlinux, kernel)
		x := openIndex(parent, vmlinux)
		write(t, filepath.Join(x.dir, kernel+".gdb-index"), kernel)
		x.close()
		dirs, _ := filepath.Glob(filepath.Join(parent, x.key+"-*"))
		if len(dirs) != 1 {
			t.Fatalf("%s: %v", kernel, dirs)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(dirs[0], then, then); err != nil {
			t.Fatal(err)
		}
	}
	kernels := "a bb ccc dddd eeeee ffffff ggggggg hhhhhhhh iiiiiiiii jjjjjjjjjj"
	for n := 1; n <= maxIndexes+2; n++ {
		add(kernels[:n], time.Duration(maxIndexes+3-n)*time.Hour)
	}
	left, _ := filepath.Glob(filepath.Join(parent, "*", "*.gdb-index"))
	if len(left) != maxIndexes {
		t.Errorf("%d are left, want %d", len(left), maxIndexes)
	}
	for _, file := range left {
		if n := len(filepath.Base(file)) - len(".gdb-index"); n < 3 {
			t.Errorf("one of the oldest two is left: %s", file)
		}
	}
}

func TestNoRoomForAnIndex(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "file")
	write(t, parent, "")
	if x := openIndex(parent, parent); x != nil {
		t.Errorf("got %+v", x)
	}
	var none *index
	none.close()
}
