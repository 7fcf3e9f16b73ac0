package toolbox

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/kimg/kimg/internal/filelock"
)

// leave makes a directory as a process leaves it that was killed.
func leave(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, filelock.DirLock), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A directory whose owner is gone is swept; one that is held, and what else is
// called so, is not.
func TestRunDirs(t *testing.T) {
	parent := filepath.Join("/tmp", filepath.Base(t.TempDir())+filepath.Base(filepath.Dir(t.TempDir())))
	if err := os.MkdirAll(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(parent) })
	t.Setenv("TMPDIR", parent)
	held, err := makeRunDir(runParent())
	if err != nil {
		t.Fatal(err)
	}
	dead := filepath.Join(parent, runPrefix+"of-one-that-was-killed")
	leave(t, dead)
	foreign := filepath.Join(parent, runPrefix+"of-another")
	if err := os.Mkdir(foreign, 0o755); err != nil {
		t.Fatal(err)
	}
	next, err := makeRunDir(runParent())
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{held.path: true, dead: false, foreign: true, next.path: true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", path, err == nil, want)
		}
	}
	if !Runs(held.path) || Runs(dead) || Runs(foreign) {
		t.Error("a guest runs where none does, or none where one does")
	}
	for _, d := range []*runDir{held, next} {
		if err := d.remove(); err != nil {
			t.Error(err)
		}
	}
}
