package fetch

import (
	"bytes"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// toFile downloads to a new file and returns what is in it.
func toFile(t *testing.T, url string, max int64, progress func(int64)) ([]byte, error) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = quick().ToFile(t.Context(), url, f, max, progress)
	got, readErr := os.ReadFile(f.Name())
	if readErr != nil {
		t.Fatal(readErr)
	}
	return got, err
}

func TestToFile(t *testing.T) {
	for name, server := range map[string]http.HandlerFunc{
		"whole":             whole,
		"cut again and on":  cutAfter(200_000),
		"cut, no validator": noValidator(),
		"another file since": func() http.HandlerFunc {
			var asked atomic.Int32
			return func(w http.ResponseWriter, r *http.Request) {
				if asked.Add(1) == 1 {
					w.Header().Set("ETag", `"old"`)
					other := bytes.Repeat([]byte("o"), len(content))
					cut := &cutter{ResponseWriter: w, left: 400_000}
					http.ServeContent(cut, r, "", time.Time{}, bytes.NewReader(other))
				}
				whole(w, r)
			}
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			var arrived atomic.Int64
			got, err := toFile(t, serve(t, server), int64(len(content)), func(n int64) { arrived.Add(n) })
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes of %d, %v", len(got), len(content), err)
			}
			if arrived.Load() != int64(len(content)) {
				t.Errorf("progress told of %d bytes of %d", arrived.Load(), len(content))
			}
		})
	}
}

// noValidator breaks its first answer, has no ETag, and would go on with other
// bytes if it were asked to.
func noValidator() http.HandlerFunc {
	var asked atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "" {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(make([]byte, len(content))))
			return
		}
		if asked.Add(1) == 1 {
			w = &cutter{ResponseWriter: w, left: 300_000}
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}
}

func TestToFileRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		server http.HandlerFunc
		says   string
	}{
		"not found": {http.NotFound, "404"},
		"too large": {whole, "larger than"},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			w.Write(content)
		}, "larger than"},
	} {
		url := serve(t, c.server)
		_, err := toFile(t, url, int64(len(content))-1, nil)
		if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), url) {
			t.Errorf("%s: %v, want %q and the URL", name, err, c.says)
		}
		if errors.Is(err, fs.ErrNotExist) != (name == "not found") {
			t.Errorf("%s: errors.Is(fs.ErrNotExist) is wrong for %v", name, err)
		}
	}
}
