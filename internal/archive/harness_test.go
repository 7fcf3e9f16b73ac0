package archive

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ulikunitz/xz"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/fetch"
	"github.com/kimg/kimg/internal/pgp"
	"github.com/kimg/kimg/internal/pgp/pgptest"
	"github.com/kimg/kimg/internal/store"
	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
)

// today is the day on which all of these tests happen.
var today = pgptest.Today

var (
	newKey = pgptest.NewKey
	signed = pgptest.Clear
)

// mirror is a small archive of trixie on the loopback.
type mirror struct {
	*httptest.Server
	key *openpgp.Entity

	mu    sync.Mutex
	files map[string][]byte // by path, "/debian/..."
	asked []string          // paths that were asked for
	away  string            // where all requests are sent; "": nowhere
}

func newMirror(t testing.TB) *mirror {
	t.Helper()
	m := &mirror{key: newKey(t, "archive", 0), files: make(map[string][]byte)}
	m.Server = httptest.NewServer(m)
	t.Cleanup(m.Close)
	return m
}

func (m *mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	m.asked = append(m.asked, r.URL.Path)
	b, ok := m.files[r.URL.Path]
	away := m.away
	m.mu.Unlock()
	if away != "" {
		http.Redirect(w, r, away, http.StatusFound)
		return
	}
	if !ok {
		http.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

func (m *mirror) put(path string, b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files["/debian/"+path] = b
}

func (m *mirror) remove(path string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.files, "/debian/"+path)
}

// countAsked tells how often paths with that ending were asked for.
func (m *mirror) countAsked(suffix string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, path := range m.asked {
		if strings.HasSuffix(path, suffix) {
			n++
		}
	}
	return n
}

// client is a client of the mirror on that day, with warnings as they come.
func (m *mirror) client(t testing.TB) *Client {
	t.Helper()
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &Client{
		Store: st, HTTP: &fetch.Client{Backoff: time.Millisecond, Retries: 1},
		Mirror:   Mirror{URL: m.URL + "/debian", From: "a test"},
		Arch:     arch.AMD64,
		Keyring:  &pgp.Keyring{Keys: openpgp.EntityList{m.key}},
		Snapshot: m.URL + "/snapshot/",
		Cache:    t.TempDir(),
		Now:      func() time.Time { return today },
	}
}

const packagesPath = "dists/trixie/main/binary-amd64/Packages"

// publish puts a package list and its signed InRelease in place. extra are more
// fields of the InRelease; of them, "Codename: x" and "Date: x" overrule.
func (m *mirror) publish(t testing.TB, packages string, extra ...string) {
	t.Helper()
	m.put(packagesPath+".xz", packXZ(t, packages))
	m.put(packagesPath+".gz", packGZ(t, packages))
	m.put("dists/trixie/InRelease", signed(t, m.release(packages, extra...), m.key))
}

func (m *mirror) release(packages string, extra ...string) string {
	fields := []string{"Origin: Debian", "Suite: stable"}
	for _, f := range append([]string{"Codename: trixie", "Date: Mon, 15 Jun 2026 10:00:00 UTC"}, extra...) {
		name, _, _ := strings.Cut(f, ":")
		for i := range fields {
			if strings.HasPrefix(fields[i], name+":") {
				fields[i] = f
				f = ""
			}
		}
		if f != "" {
			fields = append(fields, f)
		}
	}
	fields = append(fields, "SHA256:")
	for _, form := range []string{".xz", ".gz"} {
		b := m.files["/debian/"+packagesPath+form]
		if b != nil {
			fields = append(fields, fmt.Sprintf(" %s %d main/binary-amd64/Packages%s", units.DigestOf(b), len(b), form))
		}
	}
	fields = append(fields,
		fmt.Sprintf(" %s %d main/binary-amd64/Packages", units.DigestOf([]byte(packages)), len(packages)))
	return strings.Join(fields, "\n") + "\n"
}

func packXZ(t testing.TB, text string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := xz.NewWriter(&buf)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func packGZ(t testing.TB, text string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	fmt.Fprint(w, text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// stanza writes a package of a list: "name version" and more fields.
func stanza(nameVersion string, extra ...string) string {
	name, version, _ := strings.Cut(nameVersion, " ")
	if version == "" {
		version = "1"
	}
	content := debOf(name, version)
	return fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: Nobody <n@example.org>\n"+
		"Description: a package\n of %s\nFilename: pool/%s_%s_amd64.deb\nSize: %d\nSHA256: %s\n%s\n",
		name, version, name, name, version, len(content), units.DigestOf(content),
		strings.Join(append(extra, ""), "\n"))
}

// debOf is what stands for a package file in these tests.
func debOf(name, version string) []byte { return []byte("the file of " + name + " " + version) }

func trixie(t testing.TB) suite.Suite {
	t.Helper()
	s, err := suite.Parse("trixie")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// indexOf is an index of the stanzas.
func indexOf(t testing.TB, stanzas ...string) *Index {
	t.Helper()
	packages, err := parsePackages(strings.Join(stanzas, ""))
	if err != nil {
		t.Fatal(err)
	}
	return newIndex(arch.AMD64, packages)
}

func names(packages []Package) string {
	var all []string
	for _, p := range packages {
		all = append(all, p.Name)
	}
	return strings.Join(all, " ")
}
