package toolchain

import (
	"archive/tar"
	"bytes"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/deb/debtest"
)

func TestWriteContext(t *testing.T) {
	st := debtest.Store(t)
	l := testLock(t)
	l.Packages = []archive.Locked{debtest.Put(t, st, "a", []byte("first")), debtest.Put(t, st, "b", []byte("second"))}
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
