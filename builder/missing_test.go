package builder

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kimg/kimg/container/containertest"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/steps"
	"github.com/kimg/kimg/internal/units"
)

// deadMirror is a mirror from which packages leave, and the snapshot service that
// has some of them, in the layout of the real one.
type deadMirror struct {
	*httptest.Server
	mu       sync.Mutex
	mirror   map[string]bool // names of packages that the mirror has
	snapshot map[string]bool // and the snapshot service
	asked    []string
}

func (d *deadMirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, r.URL.Path)
	name := strings.TrimSuffix(path.Base(r.URL.Path), ".deb")
	at, inSnapshot := strings.CutPrefix(r.URL.Path, "/archive/debian/")
	at, _, _ = strings.Cut(at, "/")
	switch {
	case inSnapshot && at == "20250809T091630Z" && d.snapshot[name], !inSnapshot && d.mirror[name]:
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(contentOf(name)))
	default:
		http.NotFound(w, r)
	}
}

func contentOf(name string) string { return "the package " + name }

// oldLock is a lock with packages of each part, whose names are the part and
// "kept" (by the mirror), "snapped" (by the snapshot service) or "gone".
func oldLock(t *testing.T) (*session, *Lock, *deadMirror) {
	t.Helper()
	d := &deadMirror{mirror: map[string]bool{}, snapshot: map[string]bool{}}
	d.Server = httptest.NewServer(d)
	t.Cleanup(d.Close)
	t.Setenv("KIMG_MIRROR", d.URL+"/debian")
	t.Setenv("KIMG_SNAPSHOT", d.URL+"/archive/debian")
	l := fixture(t)
	pkg := func(name string, where map[string]bool) archive.Locked {
		if where != nil {
			where[name] = true
		}
		c := contentOf(name)
		return archive.Locked{
			Name:     name,
			Version:  "1.0-1",
			Arch:     "amd64",
			Filename: "pool/" + name + ".deb",
			Size:     int64(len(c)),
			SHA256:   units.DigestOf([]byte(c)),
		}
	}
	source := pkg("kernel-gone", nil)
	l.Kernel.Package, l.Kernel.SHA256 = &source, source.SHA256
	l.Rootfs.Required = []archive.Locked{pkg("rootfs-kept", d.mirror), pkg("rootfs-snapped", d.snapshot)}
	l.Rootfs.Base = []archive.Locked{pkg("rootfs-gone", nil), pkg("rootfs-lost", nil)}
	for name, tl := range map[string]*ToolchainLock{"tool": &l.Toolchain, "imaging": &l.Imaging} {
		lock := *tl.Lock
		lock.Date = l.Rootfs.Archive.Date
		lock.Base = []archive.Locked{pkg(name+"-kept", d.mirror), pkg(name+"-gone", nil)}
		lock.Packages = []archive.Locked{pkg(name+"-snapped", d.snapshot)}
		tl.Lock = &lock
		tl.Image = lock.Ref()
	}
	s := testSession(t)
	s.asks(l)
	s.from.Frozen = true
	return s, l, d
}

// Each part's packages come from the mirror or else from the snapshot service, as
// it was at the lock's date.
func TestEachPartIsLookedForInTheSnapshot(t *testing.T) {
	s, l, d := oldLock(t)
	t.Setenv("DOCKER_HOST", "unix:///nobody")
	for _, name := range []string{"kernel-gone", "rootfs-gone", "rootfs-lost", "tool-gone", "imaging-gone"} {
		d.snapshot[name] = true
	}
	fetched := 0
	for _, step := range s.plan(l).All {
		part, _, err := s.lookFor(t.Context(), l, step)
		if err != nil {
			t.Errorf("%s: %v", step.ID, err)
		}
		if part != "" {
			fetched++
		}
	}
	if fetched != 4 {
		t.Errorf("%d steps fetched something, want the source, the packages and two toolchains", fetched)
	}
	for name := range d.mirror {
		d.snapshot[name] = true
	}
	for name := range d.snapshot {
		if err := s.store.Verify(units.DigestOf([]byte(contentOf(name)))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	asked := len(d.asked)
	for _, step := range s.plan(l).All { // what is in the store is asked of nobody
		if _, _, err := s.lookFor(t.Context(), l, step); err != nil || len(d.asked) != asked {
			t.Errorf("again %s: %v, asked for %q", step.ID, err, d.asked[asked:])
		}
	}
}

// A replay that lacks something in every part says so in one run.
func TestAllThatIsMissingIsToldAtOnce(t *testing.T) {
	containertest.Engine(t) // is asked for the images, which it does not have
	s, l, _ := oldLock(t)
	err := s.all(t.Context(), s.plan(l), "old.lock", func(*Plan, steps.Results) error { return nil })
	var missing *MissingError
	if !errors.As(err, &missing) {
		t.Fatalf("%v", err)
	}
	for _, name := range []string{"kernel-gone 1.0-1", "rootfs-gone 1.0-1", "rootfs-lost 1.0-1", "tool-gone 1.0-1",
		"imaging-gone 1.0-1", "20250809T091630Z"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named:\n%v", name, err)
		}
	}
	if strings.Contains(err.Error(), "-kept") || strings.Contains(err.Error(), "-snapped") {
		t.Errorf("what is there is named:\n%v", err)
	}
	hint := missing.Hint()
	for _, want := range []string{"--mirror", "kimg lock update --lock old.lock", "suite", "kernel", "toolchain"} {
		if !strings.Contains(hint, want) {
			t.Errorf("the hint %q lacks %s", hint, want)
		}
	}
	for _, name := range []string{"rootfs-kept", "rootfs-snapped", "tool-kept", "imaging-snapped"} {
		if !s.store.Has(units.DigestOf([]byte(contentOf(name)))) {
			t.Errorf("%s is not in the store", name)
		}
	}
}

// Where things may be resolved, a toolchain is, and only the rest is told.
func TestMissingWithoutALock(t *testing.T) {
	s, l, _ := oldLock(t)
	t.Setenv("DOCKER_HOST", "unix:///nobody")
	s.from.Frozen = false
	err := s.allMissing(t.Context(), s.plan(l), "", &archive.MissingError{})
	var missing *MissingError
	if !errors.As(err, &missing) || len(missing.Parts) != 2 || strings.Contains(err.Error(), "tool-gone") {
		t.Errorf("%v", err)
	}
	if hint := missing.Hint(); !strings.HasSuffix(hint, "kimg lock update kernel suite") {
		t.Errorf("the hint is %q", hint)
	}
}
