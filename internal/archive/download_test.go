package archive

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// lockedOf locks packages by name, all of version 1.
func lockedOf(t *testing.T, names ...string) []Locked {
	t.Helper()
	var all []Locked
	for _, name := range names {
		p, ok := indexOf(t, stanza(name)).Lookup(name)
		if !ok {
			t.Fatal(name)
		}
		all = append(all, p.Locked())
	}
	return all
}

// serve puts them below dir: "debian" or snapshotDir.
func (m *mirror) serve(dir string, packages ...Locked) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range packages {
		m.files["/"+dir+"/"+p.Filename] = debOf(p.Name, p.Version)
	}
}

const snapshotDir = "snapshot/20260615T120000Z"

func TestFetch(t *testing.T) {
	m := newMirror(t)
	var names []string
	for i := range 30 {
		names = append(names, fmt.Sprintf("p%d", i))
	}
	packages := lockedOf(t, names...)
	m.serve("debian", packages...)
	c := m.client(t)
	var arrived, want atomic.Int64
	for _, p := range packages {
		want.Add(p.Size)
	}
	for range 2 { // from the mirror, and out of the store
		var total atomic.Int64
		arrived.Store(0)
		if err := c.Fetch(t.Context(), trixie(t), packages, today,
			func(n, all int64) { arrived.Add(n); total.Store(all) }); err != nil {
			t.Fatal(err)
		}
		if arrived.Load() != want.Load() || total.Load() != want.Load() {
			t.Errorf("progress told of %d bytes of %d, want %d", arrived.Load(), total.Load(), want.Load())
		}
	}
	for _, p := range packages {
		if err := c.Store.Verify(p.SHA256); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
	if n := m.countAsked(".deb"); n != 30 {
		t.Errorf("30 packages were fetched by %d requests", n)
	}
}

func TestFetchFallsBackToTheSnapshot(t *testing.T) {
	m := newMirror(t)
	packages := lockedOf(t, "kept", "gone1", "gone2", "gone3")
	m.serve("debian", packages[0])
	m.serve(snapshotDir, packages[1:]...)
	c := m.client(t)
	if err := c.Fetch(t.Context(), trixie(t), packages, today, nil); err != nil {
		t.Fatal(err)
	}
	for _, p := range packages {
		if !c.Store.Has(p.SHA256) {
			t.Errorf("%s is not in the store", p.Name)
		}
	}
}

func TestFetchOfWhatIsGone(t *testing.T) {
	m := newMirror(t)
	packages := lockedOf(t, "kept", "gone1", "gone2", "snapped")
	m.serve("debian", packages[0])
	m.serve(snapshotDir, packages[3])
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	for name, c := range map[string]struct {
		snapshot string
		gone     string
	}{
		"the snapshot service lacks some":          {m.URL + "/snapshot/", "gone1 gone2"},
		"the snapshot service is out of reach":     {down.URL + "/", "gone1 gone2 snapped"},
		"the snapshot service knows no such times": {m.URL + "/elsewhere/", "gone1 gone2 snapped"},
	} {
		t.Run(name, func(t *testing.T) {
			client := m.client(t)
			client.Snapshot = c.snapshot
			err := client.Fetch(t.Context(), trixie(t), packages, today, nil)
			var missing *MissingError
			if !errors.As(err, &missing) {
				t.Fatal(err)
			}
			got := map[string]bool{}
			for _, p := range missing.Packages {
				got[p.Name] = true
			}
			for _, want := range strings.Fields(c.gone) {
				if !got[want] || !strings.Contains(err.Error(), want) {
					t.Errorf("%s is not named: %v", want, err)
				}
			}
			if len(got) != len(strings.Fields(c.gone)) || !strings.Contains(err.Error(), c.snapshot) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestFetchOfTamperedPackage(t *testing.T) {
	m := newMirror(t)
	packages := lockedOf(t, "good", "evil")
	m.serve("debian", packages...)
	m.put(packages[1].Filename, []byte("the file of evil 2"))
	c := m.client(t)
	err := c.Fetch(t.Context(), trixie(t), packages, today, nil)
	var missing *MissingError
	if err == nil || errors.As(err, &missing) || !strings.Contains(err.Error(), packages[1].Filename) ||
		!strings.Contains(err.Error(), "not the file that was asked for") {
		t.Errorf("without a snapshot: %v", err)
	}
	if c.Store.Has(packages[1].SHA256) || !c.Store.Has(packages[0].SHA256) {
		t.Error("the store has the wrong one, or lacks the right one")
	}
	m.serve(snapshotDir, packages[1])
	if err := c.Fetch(t.Context(), trixie(t), packages, today, nil); err != nil {
		t.Errorf("with a snapshot that has it: %v", err)
	}
}

func TestFetchCancelled(t *testing.T) {
	m := newMirror(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.client(t).Fetch(ctx, trixie(t), lockedOf(t, "a", "b"), today, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestFetchFromAMirrorThatIsDown(t *testing.T) {
	m := newMirror(t)
	var names []string
	for i := range 200 {
		names = append(names, fmt.Sprintf("p%d", i))
	}
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	c := m.client(t)
	c.HTTP.Backoff = 20 * time.Millisecond // two hundred packages, one after another, would take seconds
	c.Mirror.URL, c.Snapshot = down.URL, down.URL+"/"
	begun := time.Now()
	err := c.Fetch(t.Context(), trixie(t), lockedOf(t, names...), today, nil)
	var missing *MissingError
	if err == nil || errors.As(err, &missing) || !strings.Contains(err.Error(), down.URL) ||
		strings.Count(err.Error(), "\n") > maxReported {
		t.Errorf("%v", err)
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("it took %v to see that the mirror is down", took)
	}
}
