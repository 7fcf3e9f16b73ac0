package keep

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/cache"
)

// What an out directory needs and cannot say is not taken.
func TestUnreadableManifestKeepsTheStore(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	cache.Stamp(dir, "out-x", out)
	entry := storeEntry(t, dir, 40, "text")
	record := put(t, 40, "{}", dir, "actions", hex("a")+".json")
	log := put(t, 40, "x", dir, "logs", "kernel-1.log")
	if err := os.Mkdir(filepath.Join(out, artifact.Manifest), 0o755); err != nil { // is read by nobody
		t.Fatal(err)
	}
	prune(t, dir, nil, Options{To: -1})
	if left := there(entry, record); len(left) != 2 {
		t.Errorf("only %v is left, though a build may need the rest", left)
	}
	if len(there(log)) != 0 {
		t.Error("the log is left, which no build needs")
	}
	for _, i := range list(t, dir, nil).Items {
		if !strings.Contains(i.Stays, artifact.Manifest) {
			t.Errorf("%+v", i)
		}
	}
}

// A directory of the cache that is a link is somebody else's.
func TestLinkedDirectoryIsLeft(t *testing.T) {
	dir, theirs := t.TempDir(), t.TempDir()
	log := put(t, 40, "x", theirs, "kernel-1.log")
	if err := errors.Join(os.Symlink(theirs, filepath.Join(dir, "logs"))); err != nil {
		t.Fatal(err)
	}
	if taken := prune(t, dir, nil, Options{To: -1}); len(taken) != 0 || len(there(log)) != 1 {
		t.Errorf("took %+v", taken)
	}
}
