package kernelorg

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/kimg/kimg/internal/fetch"
	"github.com/kimg/kimg/internal/pgp"
	"github.com/kimg/kimg/internal/pgp/pgptest"
	"github.com/kimg/kimg/internal/store"
	"github.com/kimg/kimg/internal/units"
)

// The keys of these tests: of lists, of lists until long before Today, of tars,
// and of nobody who counts.
type keys struct{ sums, old, tar, stranger *openpgp.Entity }

var testKeys = sync.OnceValue(func() keys {
	t := &testing.T{} // they are made once; a failure panics
	return keys{pgptest.NewKey(t, "sums", 0), pgptest.NewKey(t, "old", 3600), pgptest.NewKey(t, "tar", 0),
		pgptest.NewKey(t, "stranger", 0)}
})

func ring(k ...*openpgp.Entity) *pgp.Keyring { return &pgp.Keyring{Keys: k} }

// tarOf stands for the tar of a version: it does not pack well.
func tarOf(version string) []byte {
	b := make([]byte, 600_000)
	r := rand.New(rand.NewPCG(uint64(len(version)), uint64(version[0])))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return append([]byte("linux-"+version+"/"), b...)
}

var xzOf = func() func(testing.TB, string) []byte {
	var made sync.Map
	return func(t testing.TB, version string) []byte {
		t.Helper()
		if b, ok := made.Load(version); ok {
			return b.([]byte)
		}
		var buf bytes.Buffer
		w, err := xz.NewWriter(&buf)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(tarOf(version))
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		made.Store(version, buf.Bytes())
		return buf.Bytes()
	}
}()

func gzOf(version string) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	w.Write(tarOf(version))
	w.Close()
	return buf.Bytes()
}

func zstOf(t testing.TB, version string) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(tarOf(version), nil)
}

// site is a server with kernel.org's layout.
type site struct {
	*httptest.Server
	mu     sync.Mutex
	files  map[string][]byte
	ranges []string // the Range headers of requests that had one
	cut    int      // break answers for tarballs after so many bytes; 0: never
	whole  bool     // knows no ranges
}

const v4x = "/pub/linux/kernel/v4.x/"

// newSite has 4.20.6 and 4.20.17, signed as kernel.org does it.
func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{files: make(map[string][]byte)}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	s.add(t, v4x, "4.20.6", "4.20.17")
	return s
}

// add puts versions and their list into a directory.
func (s *site) add(t testing.TB, dir string, versions ...string) {
	t.Helper()
	for _, v := range versions {
		s.files[dir+"linux-"+v+".tar.xz"] = xzOf(t, v)
		s.files[dir+"linux-"+v+".tar.sign"] = pgptest.Detached(t, tarOf(v), testKeys().tar)
	}
	s.files[dir+"sha256sums.asc"] = pgptest.Clear(t, listOf(t, versions...), testKeys().sums)
}

func listOf(t testing.TB, versions ...string) string {
	var text strings.Builder
	for _, v := range versions {
		fmt.Fprintf(&text, "%s  ChangeLog-%s\n%s  linux-%s.tar.xz\n", units.DigestOf(nil), v,
			units.DigestOf(xzOf(t, v)), v)
	}
	return text.String()
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	b, ok := s.files[r.URL.Path]
	if rng := r.Header.Get("Range"); rng != "" {
		s.ranges = append(s.ranges, rng)
	}
	cut, whole := s.cut, s.whole
	s.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	if cut > 0 && len(b) > cut {
		w = &cutter{w, cut}
	}
	if whole {
		w.Write(b)
		return
	}
	w.Header().Set("ETag", fmt.Sprintf("%q", units.DigestOf(b).Short()))
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

// cutter breaks the connection after left bytes.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b[:min(len(b), c.left)])
	if c.left -= n; err == nil && c.left == 0 {
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

// client is a client of the site on that day.
func (s *site) client(t testing.TB) *Client {
	t.Helper()
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &Client{
		Store: st, HTTP: &fetch.Client{Backoff: time.Millisecond, Retries: 1}, Base: s.URL,
		Keys: Keys{Sums: ring(testKeys().sums, testKeys().old), Tar: ring(testKeys().tar)},
		Now:  func() time.Time { return pgptest.Today },
	}
}

func version(t testing.TB, s string) units.KernelVersion {
	t.Helper()
	v, err := units.ParseKernelVersion(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// mustKeepNothing fails where the store has an entry, or waste.
func mustKeepNothing(t *testing.T, c *Client) {
	t.Helper()
	root := filepath.Dir(filepath.Dir(filepath.Dir(c.Store.Path(units.DigestOf(nil)))))
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			t.Errorf("%s was kept", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
