package archive

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/suite"
)

// moody is a server that has files and treats each in a way of its own.
type moody struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string]string // by path
	mood  map[string]string // by the path's end: "cut", "lie"
	asked map[string]int
}

func newMoody(t *testing.T) *moody {
	m := &moody{files: map[string]string{}, mood: map[string]string{}, asked: map[string]int{}}
	m.Server = httptest.NewServer(m)
	t.Cleanup(m.Close)
	return m
}

func (m *moody) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked[r.URL.Path]++
	b, ok := m.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	mood := ""
	for end, how := range m.mood {
		if strings.HasSuffix(r.URL.Path, end) {
			mood = how
		}
	}
	switch {
	case mood == "lie":
		b = strings.ToUpper(b)
	case mood == "cut" && m.asked[r.URL.Path] == 1:
		w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		fmt.Fprint(w, b[:len(b)/2])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(b))
}

func (m *moody) put(base string, packages ...Locked) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range packages {
		m.files[base+"/"+p.Filename] = string(debOf(p.Name, p.Version))
	}
}

// TestFetchOfALock is a lock's life: some of its packages are in the store, some on
// the mirror, some only at the snapshot service, in its own layout, by the
// lock's date or by the first look that the service had after it; servers cut
// and lie meanwhile.
func TestFetchOfALock(t *testing.T) {
	m := newMoody(t)
	at := time.Date(2025, 8, 9, 9, 16, 30, 0, time.UTC)
	const (
		exact   = "/archive/debian/20250809T091630Z"
		later   = "/archive/debian/20250809T171630Z"
		nextDay = "/archive/debian/20250810T091630Z"
	)
	packages := lockedOf(t, "stored", "plain", "cut", "lied", "old", "oldcut", "fresh", "freshest")
	by := map[string]Locked{}
	for _, p := range packages {
		by[p.Name] = p
	}
	m.put("/debian", by["plain"], by["cut"], by["lied"])
	m.put(exact, by["lied"], by["old"], by["oldcut"])
	m.put(later, by["fresh"])
	m.put(nextDay, by["freshest"])
	m.mood["/debian/"+by["cut"].Filename] = "cut"
	m.mood["/debian/"+by["lied"].Filename] = "lie"
	m.mood[exact+"/"+by["oldcut"].Filename] = "cut"

	c := newMirror(t).client(t)
	c.Mirror.URL, c.Snapshot = m.URL+"/debian", m.URL+"/archive/debian/"
	w, err := c.Store.Create()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(debOf("stored", "1")); err != nil {
		t.Fatal(err)
	}
	if err := w.CommitAs(by["stored"].SHA256); err != nil {
		t.Fatal(err)
	}
	if err := c.Fetch(t.Context(), trixie(t), packages, at, nil); err != nil {
		t.Fatal(err)
	}
	for _, p := range packages {
		if err := c.Store.Verify(p.SHA256); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
	if n := m.asked["/debian/"+by["stored"].Filename]; n > 0 {
		t.Errorf("what is in the store was asked for %d times", n)
	}

	// What nobody has, and what is wrong everywhere, is told all at once.
	gone := lockedOf(t, "gone1", "gone2", "gone3", "gone4", "gone5", "gone6", "gone7")
	err = c.Fetch(t.Context(), trixie(t), gone, at, nil)
	var missing *MissingError
	if !errors.As(err, &missing) || len(missing.Packages) != len(gone) {
		t.Fatalf("%v", err)
	}
	for _, p := range gone {
		if !strings.Contains(err.Error(), "\n  "+p.Name+" 1") {
			t.Errorf("%s is not named: %v", p.Name, err)
		}
	}
	if !strings.Contains(err.Error(), exact) {
		t.Errorf("the snapshot that was asked is not named: %v", err)
	}
	evil := lockedOf(t, "evil")
	m.put("/debian", evil...)
	m.put(exact, evil...)
	m.mood[evil[0].Filename] = "lie"
	err = c.Fetch(t.Context(), trixie(t), append(gone, evil...), at, nil)
	if err == nil || errors.As(err, &missing) {
		t.Fatalf("a lie is no lack: %v", err)
	}
	for _, name := range []string{"gone1", "gone7", "evil 1", "not the file that was asked for"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named: %v", name, err)
		}
	}
	if c.Store.Has(evil[0].SHA256) {
		t.Error("a lie is in the store")
	}
}

// A snapshot service that another firm runs is asked in the place of the family's.
func TestSnapshotBase(t *testing.T) {
	at := time.Date(2025, 8, 9, 9, 16, 30, 0, time.UTC)
	for _, tt := range []struct{ env, value, want string }{
		{"KIMG_SNAPSHOT", "", "https://snapshot.debian.org/archive/debian/"},
		{"KIMG_SNAPSHOT", "http://snap.example.org/archive/debian", "http://snap.example.org/archive/debian/"},
		{"KIMG_SNAPSHOT", "http://snap.example.org/archive/debian/", "http://snap.example.org/archive/debian/"},
		{"KIMG_SNAPSHOT", "snap.example.org", ""},
	} {
		t.Setenv(tt.env, tt.value)
		t.Setenv("KIMG_MIRROR", "")
		got, err := SnapshotBase(suite.Debian)
		if got != tt.want || (err == nil) != (tt.want != "") || err != nil && !strings.Contains(err.Error(), tt.env) {
			t.Errorf("%q: %q, %v", tt.value, got, err)
		}
		m, err := MirrorQuery{Root: t.TempDir(), Family: suite.Debian, Arch: arch.AMD64, At: at}.Resolve()
		if err == nil && (m.URL != tt.want+"20250809T091630Z" || !m.isSnapshot()) || (err == nil) != (tt.want != "") {
			t.Errorf("%q: the mirror is %q (%v), %v", tt.value, m.URL, m.isSnapshot(), err)
		}
	}
	t.Setenv("KIMG_SNAPSHOT", "http://snap.example.org/archive/debian")
	if got := SnapshotURL(suite.Debian, at); got != "https://snapshot.debian.org/archive/debian/20250809T091630Z" {
		t.Errorf("what goes into images depends on the environment: %s", got)
	}
}
