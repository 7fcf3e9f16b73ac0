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

	x := openIndex(parent, vmlinux, "gdb 16")
	if x == nil || x.fill == nil {
		t.Fatalf("the first one is %+v, want room for one", x)
	}
	write(t, filepath.Join(x.dir, "abc.gdb-index"), "an index")
	write(t, filepath.Join(x.dir, "abc.gdb-index-Xy1"), "half of one") // of a gdb that was killed
	x.close()

	killed := filepath.Join(parent, runPrefix+"1")
	leave(t, killed)

	x = openIndex(parent, vmlinux, "gdb 16")
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
		x = openIndex(parent, vmlinux, "gdb 16")
		if x == nil || x.fill == nil {
			t.Fatalf("a damaged one is shown to gdb: %+v", x)
		}
		write(t, filepath.Join(x.dir, "abc.gdb-index"), "an index")
		x.close()
	}

	write(t, vmlinux, "another kernel")
	if x = openIndex(parent, vmlinux, "gdb 16"); x == nil || x.fill == nil {
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
		x := openIndex(parent, vmlinux, "gdb 16")
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
	if x := openIndex(parent, parent, "gdb 16"); x != nil {
		t.Errorf("got %+v", x)
	}
	var none *index
	none.close()
}

// This machine's gdb makes an index too, and is shown it the next time; another gdb makes its own. One that makes none
// is not asked again.
func TestHostIndex(t *testing.T) {
	bin, out, indexes := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "gdb-index")
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	vmlinux := filepath.Join(out, artifact.Vmlinux)
	write(t, vmlinux, "a kernel")
	script := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(bin, "gdb"), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	open := func(now bool) *Tools {
		t.Helper()
		m := Mounts{Dir: out, Files: []string{artifact.Vmlinux}, Index: now}
		tools, err := Host{Indexes: indexes}.Open(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		if now && tools.Indexed != nil {
			<-tools.Indexed
		}
		if err := tools.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		return tools
	}
	const makes = `for word; do
	case $word in *directory*) echo an index >"${word##* }/abc.gdb-index" ;; esac
done
`
	script(makes)
	if tools := open(false); tools.Index != "" || tools.Indexed == nil { // and is closed long before it is made
		t.Errorf("the first: %+v", tools)
	}
	open(true)
	tools := open(false)
	if text, err := os.ReadFile(filepath.Join(tools.Index, "abc.gdb-index")); string(text) != "an index\n" {
		t.Errorf("%q holds %q, %v", tools.Index, text, err)
	}
	script(makes + "# another version\n")
	if tools := open(true); tools.Index != "" {
		t.Errorf("another gdb is shown the index of the first: %+v", tools)
	}
	script("exit 0 # it knows of no index-cache\n")
	open(true)
	if tools := open(true); tools.Index != "" || tools.Indexed != nil {
		t.Errorf("a gdb that makes none is asked again: %+v", tools)
	}
	script("exit 1 # it was ended\n")
	open(true)
	if tools := open(true); tools.Indexed == nil {
		t.Error("a gdb that was ended is not asked again")
	}
}
