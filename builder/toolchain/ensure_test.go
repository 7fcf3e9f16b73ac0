package toolchain

import (
	"archive/tar"
	"bytes"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/store"
)

func testStore(t *testing.T) *store.Store {
	t.Helper()
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// put stores a package and returns its lock.
func put(t *testing.T, st *store.Store, name string, deb []byte) archive.Locked {
	t.Helper()
	w, err := st.Create()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.Write(deb); err != nil {
		t.Fatal(err)
	}
	d, n, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return archive.Locked{Name: name, Version: "1.0-1", Arch: "amd64", Filename: "pool/" + name + ".deb", Size: n,
		SHA256: d}
}

func TestWriteContext(t *testing.T) {
	st := testStore(t)
	l := testLock(t)
	l.Packages = []archive.Locked{put(t, st, "a", []byte("first")), put(t, st, "b", []byte("second"))}
	var b bytes.Buffer
	if err := writeContext(t.Context(), &b, st, l); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for tr := tar.NewReader(&b); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = string(body)
	}
	want := map[string]string{"Dockerfile.builder": string(dockerfile), "hugepages.c": string(hugepages),
		"debs/a.deb": "first", "debs/b.deb": "second"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("context (-want +got):\n%s", d)
	}
	l.Packages[0].Size++ // as a store that was tampered with would have it
	if err := writeContext(t.Context(), io.Discard, st, l); err == nil {
		t.Error("a package of another size than locked passed")
	}
}
