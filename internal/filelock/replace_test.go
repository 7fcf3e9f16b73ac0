package filelock

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// A file that was begun is beside the one that it replaces; what a kill left of one goes with the next, and nothing
// else does.
func TestReplace(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "disk")
	hour := time.Now().Add(-time.Hour)
	stale := func(name string) {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, hour, hour); err != nil {
			t.Fatal(err)
		}
	}
	const number = "1234567890123456789"
	for _, name := range []string{".disk" + number, ".disk1", ".disk" + number + "x", ".other" + number} {
		stale(name)
	}
	growing, err := Replace(name)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Dir(growing.Name()) != dir {
		t.Errorf("it grows in %s", growing.Name())
	}
	if _, err := growing.Write([]byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(growing.Name(), hour, hour); err != nil {
		t.Fatal(err)
	}
	other, err := Replace(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Cleanup(); err != nil {
		t.Fatal(err)
	}
	if err := growing.CloseAtomicallyReplace(); err != nil {
		t.Errorf("it was swept: %v", err)
	}
	if b, err := os.ReadFile(name); err != nil || string(b) != "one" {
		t.Errorf("%q, %v", b, err)
	}
	var left []string
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{".disk1", ".disk" + number + "x", ".other" + number, "disk"}; !slices.Equal(left, want) {
		t.Errorf("left: %q", left)
	}
}
