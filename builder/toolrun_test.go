package builder

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/progress"
)

func TestPackDir(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.c", "sub/b.h", "kimg-out/rootfs.img", ".git/HEAD", "sub/.git/HEAD"} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"link": "sub/b.h", "out": "/etc/passwd"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if err := packDir(t.Context(), dir, filepath.Join(dir, "kimg-out"), &b); err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, h.Name+" "+h.Linkname+string(content))
	}
	want := []string{"a.c a.c", "link sub/b.h", "out /etc/passwd", "sub/ ", "sub/.git/ ", "sub/.git/HEAD sub/.git/HEAD",
		"sub/b.h sub/b.h"}
	if !slices.Equal(got, want) {
		t.Errorf("packed are %q, want %q", got, want)
	}
}

// TestTakeBack has a container's tar write into a directory, and nowhere else.
func TestTakeBack(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "dir")
	if err := os.MkdirAll(filepath.Join(dir, "there"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"there/old": "old", "there/old.kimg-new": "of one that was killed"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("..", filepath.Join(dir, "up")); err != nil {
		t.Fatal(err)
	}
	put := func(headers ...tar.Header) ([]string, error) {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range headers {
			h.Mode = 0o755
			if h.Typeflag == tar.TypeReg {
				h.Size = 3
			}
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if h.Typeflag == tar.TypeReg {
				if _, err := io.WriteString(w, "new"); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		var said heard
		s := &tools{Sources: &Sources{env: Env{Sink: &said}}}
		err := s.takeBack(t.Context(), dir, &b)
		return said, err
	}
	said, err := put(
		tar.Header{Typeflag: tar.TypeReg, Name: "./there/old"},
		tar.Header{Typeflag: tar.TypeReg, Name: "./fresh/deep"},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "lib.so", Linkname: "there/old"},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "bad", Linkname: "../other"},
		tar.Header{Typeflag: tar.TypeSymlink, Name: "worse", Linkname: "/etc/passwd"})
	if err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(said, "\n"); len(said) != 2 || !strings.Contains(all, "bad is a link to ../other") ||
		!strings.Contains(all, "worse is a link to /etc/passwd") {
		t.Errorf("it was said %q", said)
	}
	for name, want := range map[string]string{"there/old": "new", "fresh/deep": "new", "lib.so": "new"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
			t.Errorf("%s is %q, %v", name, b, err)
		}
	}
	for _, name := range []string{"bad", "worse", "there/old.kimg-new"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is there", name)
		}
	}
	for _, name := range []string{"../stray", "up/stray", "/stray"} {
		_, err := put(tar.Header{Typeflag: tar.TypeReg, Name: name})
		if _, there := os.Stat(filepath.Join(top, "stray")); err == nil && name != "/stray" || there == nil {
			t.Errorf("%s: %v, and it is there: %v", name, err, there == nil)
		}
	}
}

// heard are the texts of events.
type heard []string

func (h *heard) Emit(e progress.Event) { *h = append(*h, e.Text) }
