package inode

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestOf has a file's time of last change move where a program sets back the one of its content.
func TestOf(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	id := func() ID {
		t.Helper()
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		return Of(info)
	}
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	first := id()
	if first.Inode == 0 || first.Changed == 0 || id() != first {
		t.Fatalf("%+v, then %+v", first, id())
	}
	for old := time.Unix(1_000_000_000, 0); id().Changed == first.Changed; time.Sleep(time.Millisecond) {
		if err := os.Chtimes(name, old, old); err != nil {
			t.Fatal(err)
		}
	}
	if now := id(); now.Changed < first.Changed || now.Inode != first.Inode || now.Device != first.Device {
		t.Errorf("%+v, then %+v", first, now)
	}
}
