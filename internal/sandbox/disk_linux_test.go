package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestSize(t *testing.T) { eachIDs(t, testSize) }

func testSize(t *testing.T, ids IDs) {
	dir := t.TempDir()
	size := func() int64 {
		t.Helper()
		n, err := Size(t.Context(), ids, dir)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	empty := size()
	sub, file := filepath.Join(dir, "sub"), filepath.Join(dir, "sub", "file")
	if err := os.Mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	n := size() - empty
	if n < 1<<20 || n > 1<<20+64<<10 {
		t.Errorf("a file of a mebibyte takes %d bytes", n)
	}
	if err := os.Link(file, filepath.Join(dir, "again")); err != nil {
		t.Fatal(err)
	}
	if got := size() - empty; got != n {
		t.Errorf("a second name makes %d bytes of %d", got, n)
	}
	if err := os.Chmod(sub, 0); err != nil { // as an overlay's work directory
		t.Fatal(err)
	}
	defer os.Chmod(sub, 0o700)
	if got := size() - empty; got != n {
		t.Errorf("in a directory that this user may not read it is %d bytes, want %d", got, n)
	}
	if _, err := Size(t.Context(), ids, file+"-none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of nothing: %v", err)
	}
}
