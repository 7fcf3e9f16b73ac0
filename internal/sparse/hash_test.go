package sparse

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func hashOf(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if err := Hash(t.Context(), h, f); err != nil {
		t.Fatal(err)
	}
	return string(h.Sum(nil))
}

// The holes do not count, and each byte does: also one in a hole, and one more at the end.
func TestHash(t *testing.T) {
	const size = 5<<20 + 17
	name := filepath.Join(t.TempDir(), "f")
	data := map[int64]byte{3: 1, 1<<20 - 1: 2, 3 << 20: 3, size - 1: 4}
	sparseFile := func() {
		os.Remove(name)
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for at, b := range data {
			if _, err := f.WriteAt([]byte{b}, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	sparseFile()
	want := hashOf(t, name)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(name)
	if err := os.WriteFile(name, whole, 0o600); err != nil { // without holes
		t.Fatal(err)
	}
	if hashOf(t, name) != want {
		t.Error("a file without holes has another hash")
	}
	for _, at := range []int64{0, 3, 1<<20 - 1, 2 << 20, 4<<20 + 5, size - 1, size} {
		sparseFile()
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{data[at] ^ 0x10}, at); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if hashOf(t, name) == want {
			t.Errorf("a change at %d goes unseen", at)
		}
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Hash(ctx, sha256.New(), f); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}
