package builder

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kimg/kimg/builder/spec"
)

// An overlay is pinned by what is in it. With a lock it is the store's, or that which has the same bytes.
func TestOverlayIsPinned(t *testing.T) {
	dir := t.TempDir()
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "motd"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("one")
	s := testSession(t)
	pin := func(o spec.Overlay) (spec.Custom, error) {
		q := spec.Request{Size: 1 << 20, Custom: spec.Custom{Overlays: []spec.Overlay{o}}}
		return (&resolver{Sources: s.Sources, q: q}).custom(t.Context())
	}
	c, err := pin(spec.Overlay{Path: "o", From: dir})
	if err != nil {
		t.Fatal(err)
	}
	locked := c.Overlays[0]
	if locked.From != "" || !s.store.Has(locked.SHA256) {
		t.Errorf("pinned: %+v", locked)
	}
	if again, err := pin(locked); err != nil || again.Digest() != c.Digest() {
		t.Errorf("from the store: %v %v", again, err)
	}
	if err := os.Remove(s.store.Path(locked.SHA256)); err != nil {
		t.Fatal(err)
	}
	var none *OverlayError
	if _, err := pin(locked); !errors.As(err, &none) || !strings.Contains(none.Hint(), "--overlay") {
		t.Errorf("not in the store: %v", err)
	}
	locked.From = dir
	if again, err := pin(locked); err != nil || again.Digest() != c.Digest() {
		t.Errorf("packed again: %v %v", again, err)
	}
	put("two")
	const other = "another one than the lock pins"
	if _, err := pin(locked); !errors.As(err, &none) || !strings.Contains(err.Error(), other) {
		t.Errorf("another content, where the store has the pinned one: %v", err)
	}
	if err := os.Remove(s.store.Path(locked.SHA256)); err != nil {
		t.Fatal(err)
	}
	if _, err := pin(locked); !errors.As(err, &none) || !strings.Contains(err.Error(), other) {
		t.Errorf("another content: %v", err)
	}
}

// Two file systems that are customised otherwise can be told apart by their UUIDs; one that is not has that of its
// packages.
func TestUUIDOfCustomised(t *testing.T) {
	r := spec.RootfsLock{Required: []spec.Package{{SHA256: spec.Digest(strings.Repeat("ab", 32))}}}
	of := func(c spec.Custom) spec.ImageLock { return spec.NewImageLock(1<<30, r, c) }
	if got := of(spec.Custom{}).UUID.String(); got != "e9529527-7b9a-57ea-9f51-7786bc2880c9" {
		t.Errorf("without anything of the user's it is %s", got)
	}
	one, two := of(spec.Custom{Hostname: "one"}), of(spec.Custom{Hostname: "two"})
	if one.UUID == two.UUID || one.HashSeed == two.HashSeed || one.UUID == of(spec.Custom{}).UUID {
		t.Errorf("%v and %v", one, two)
	}
	if again := of(spec.Custom{Hostname: "one"}); again != one {
		t.Errorf("one twice: %v and %v", one, again)
	}
}
