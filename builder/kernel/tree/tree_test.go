package tree

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// write makes files below dir; a text that begins with "->" makes a link. All are
// older than what Scan mistrusts.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		target, link := strings.CutPrefix(text, "->")
		var err error
		if link {
			err = os.Symlink(target, name)
		} else {
			err = os.WriteFile(name, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func scan(t *testing.T, dir string, known Files) Files {
	t.Helper()
	files, _, err := Scan(t.Context(), dir, known)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func names(files Files) (names []string) {
	for _, f := range files {
		names = append(names, string(f.Kind)+" "+f.Path)
	}
	return names
}

// TestScanLeavesOut has what an earlier make, an editor and git leave in a tree.
func TestScanLeavesOut(t *testing.T) {
	dir := t.TempDir()
	source := map[string]string{
		"Makefile": "m", "fs/open.c": "c", "fs/.gitignore": "i", "link": "->fs", "scripts/mod.sh": "s",
		"include/config.h": "h", "arch/x86/include/asm/generated.h": "h", ".clang-format": "f",
		"fs/a.cmd": "no product", "Documentation/vmlinux": "only at the top is it a product", ".o": "has no name",
	}
	write(t, dir, source)
	write(t, dir, map[string]string{
		".git/HEAD": "x", ".config": "x", ".config.old": "x", "vmlinux": "x", "System.map": "x", "Module.symvers": "x",
		"vmlinux-gdb.py": "->x", ".version": "x", ".kimg-obj/x": "x", "sub/.git/x": "x",
		"fs/open.o": "x", "fs/built-in.a": "x", "fs/x.mod.c": "x", "fs/.open.o.cmd": "x", "fs/.x.d": "x",
		"fs/.x.tmp":      "x",
		"fs/.open.c.swp": "x", "fs/.tmp_x": "x", ".tmp_versions/x": "x", "scripts/__pycache__/x.pyc": "x",
		"include/generated/x.h": "x", "include/config/X": "x", "arch/x86/include/generated/x.h": "x",
		"scripts/.fixdep.cmd": "kbuild's note that it made", "scripts/fixdep": "x",
	})
	if err := os.Chmod(filepath.Join(dir, "scripts/mod.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"f .clang-format", "f .o", "f Documentation/vmlinux", "f Makefile", "f arch/x86/include/asm/generated.h",
		"f fs/.gitignore", "f fs/a.cmd", "f fs/open.c", "f include/config.h", "l link", "x scripts/mod.sh",
	}
	if diff := cmp.Diff(want, names(scan(t, dir, nil))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestScanRefuses(t *testing.T) {
	for name, make := range map[string]func(dir string) error{
		"line break in a file": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "a\nb"), nil, 0o600)
		},
		"line break in a link":    func(dir string) error { return os.Symlink("a\nb", filepath.Join(dir, "l")) },
		"scan kernel tree":        os.Remove,
		"it changed while it was": os.Remove,
	} {
		dir := t.TempDir()
		if err := make(dir); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Scan(t.Context(), dir, nil); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, want one with %q", err, name)
		}
	}
}

// TestScanSkips has a socket and a FIFO, as a guest of QEMU's leaves them in a tree.
func TestScanSkips(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Makefile"), []byte("m"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "vm"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "vm/pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: filepath.Join(dir, "monitor")}); err != nil {
		t.Fatal(err)
	}
	files, skipped, err := Scan(t.Context(), dir, nil)
	if err != nil || !slices.Equal(names(files), []string{"f Makefile"}) ||
		!slices.Equal(skipped, []string{"monitor", "vm/pipe"}) {
		t.Errorf("%q, skipped %q, %v", names(files), skipped, err)
	}
}

// TestScanKnown holds that a file whose status is known is not read again, unless it
// was so young that it may have changed unseen.
func TestScanKnown(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"a": "1", "b": "1", "c": "->1"})
	young := scan(t, dir, nil)
	if young[0].Ino != 0 {
		t.Errorf("a file of this moment is known by its status: %+v", young[0])
	}
	// Nobody can set a change time: wait until the files are old enough.
	time.Sleep(racy + 100*time.Millisecond)
	old := scan(t, dir, young)
	if old[0].Ino == 0 || old.Digest() != young.Digest() {
		t.Fatalf("%+v, want what it was, and the status of a", old)
	}
	lie := slices.Clone(old)
	lie[0].Sum, lie[2].Sum = "known", "known"
	again := scan(t, dir, lie)
	if again[0].Sum != "known" || again[1].Sum != old[1].Sum || again[2].Sum != "1" {
		t.Errorf("%+v, want the content of a as known, that of b and the link as it is", again)
	}
	if again.Digest() == old.Digest() {
		t.Error("another content has the same digest")
	}
	lie[0].MTime++
	if again := scan(t, dir, lie); again[0].Sum != old[0].Sum {
		t.Errorf("%+v: a file of another time was not read", again[0])
	}
}

func TestDigest(t *testing.T) {
	one := Files{{Path: "a", Kind: 'f', Sum: "1"}, {Path: "b", Kind: 'f', Sum: "2"}}
	same := slices.Clone(one)
	same[0].Stat = Stat{1, 2, 3, 4}
	if one.Digest() != same.Digest() {
		t.Error("times are in the digest")
	}
	for i, other := range []Files{
		one[:1], {one[0], {Path: "b", Kind: 'x', Sum: "2"}}, {one[0], {Path: "c", Kind: 'f', Sum: "2"}},
		{one[0], {Path: "b", Kind: 'f', Sum: "3"}},
	} {
		if one.Digest() == other.Digest() {
			t.Errorf("tree %d has the digest of another", i)
		}
	}
}

func TestDiff(t *testing.T) {
	files := func(text string) (l Files) {
		for _, word := range strings.Fields(text) {
			name, sum, _ := strings.Cut(word, "=")
			l = append(l, File{Path: name, Kind: 'f', Sum: sum})
		}
		return l
	}
	for _, c := range []struct{ have, want, send, remove, rmdir string }{
		{"a=1 b=1", "a=1 b=1", "", "", ""},
		{"", "a=1 d/b=1", "a d/b", "", ""},
		{"a=1 b=1", "a=2 c=1", "a c", "b", ""},
		{"d/e/f/x=1 d/e/y=1", "d/e/y=1", "", "d/e/f/x", "d/e/f"},
		{"d/e/f/x=1 d/e/y=1 d/z=1", "", "", "d/z d/e/y d/e/f/x", "d/e/f d/e d"},
		{"d/x=1", "d=1", "d", "d/x", "d"},
		{"d=1", "d/x=1", "d/x", "d", ""},
		{"d-e=1 d/e=1", "d-e=1", "", "d/e", "d"},
	} {
		d := Diff(files(c.have), files(c.want))
		var send []string
		for _, f := range d.Send {
			send = append(send, f.Path)
		}
		got := fmt.Sprint(send, d.Remove, d.Rmdir)
		if want := fmt.Sprint(strings.Fields(c.send), strings.Fields(c.remove), strings.Fields(c.rmdir)); got != want {
			t.Errorf("from %q to %q: %s, want %s", c.have, c.want, got, want)
		}
	}
}

// TestStore keeps a list in both ways, and reads damaged ones.
func TestStore(t *testing.T) {
	files := Files{
		{Path: "a b", Kind: 'f', Sum: strings.Repeat("0a", 32), Stat: Stat{1 << 40, -1, 1 << 62, 1<<64 - 1}},
		{Path: "l", Kind: 'l', Sum: "../x\ty"},
	}
	name := filepath.Join(t.TempDir(), "list")
	if l := Load(name); l != nil {
		t.Errorf("a list that is not there: %v", l)
	}
	if err := files.Store(name); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(files, Load(name)); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	packed, err := files.Pack()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Unpack(packed)
	if diff := cmp.Diff(files, got); diff != "" || err != nil {
		t.Errorf("packed: %v\n%s", err, diff)
	}
	for _, damaged := range [][]byte{nil, []byte("x"), packed[:len(packed)-9]} {
		if l, err := Unpack(damaged); err == nil {
			t.Errorf("%q was read: %v", damaged, l)
		}
	}
	for _, damaged := range []string{"", "kimg listing 1\n", cacheHead, cacheHead + "\nf",
		cacheHead + "\nf\t1\t1\t1\t1\t3\t../\n", cacheHead + "\nf\t1\t1\t1\t1\t9\tx\n"} {
		if err := os.WriteFile(name, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if l := Load(name); len(l) != 0 {
			t.Errorf("%q was read: %v", damaged, l)
		}
	}
}

// FuzzDecode holds that what a volume of another's gives stays in the tree.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(cacheHead + "\nf\t1\t1\t1\t1\t1\txsum\nl\t1\t1\t1\t1\t3\ta/b->\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		files, err := decode(data)
		if err != nil {
			return
		}
		for _, e := range files {
			if strings.HasPrefix(e.Path, "/") || slices.Contains(strings.Split(e.Path, "/"), "..") {
				t.Fatalf("%q is let pass", e.Path)
			}
		}
		var b bytes.Buffer
		if err := files.encode(&b); err != nil {
			t.Fatal(err)
		}
		again, err := decode(b.Bytes())
		if err != nil || !slices.Equal(files, again) {
			t.Fatalf("%v does not read back: %v, %v", files, again, err)
		}
	})
}
