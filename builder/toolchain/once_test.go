package toolchain

import (
	"context"
	"io"
	"sync"
	"testing"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/deb/debtest"
	"github.com/kimg/kimg/internal/progress"
)

// memory is an engine that notes which images it was given.
type memory struct {
	container.Engine
	mu     sync.Mutex
	images map[string]bool
	made   []string
}

func (m *memory) ImageID(_ context.Context, ref string) (string, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return "sha256:" + ref, m.images[ref], nil
}

func (m *memory) Import(_ context.Context, ref string, tar io.Reader) error { return m.keep(ref, tar) }

func (m *memory) Build(_ context.Context, spec container.BuildSpec) error {
	return m.keep(spec.Tag, spec.Context)
}

func (m *memory) keep(ref string, r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.images[ref] = true
	m.made = append(m.made, ref)
	return err
}

// said is what a kimg told its user.
type said struct {
	mu   sync.Mutex
	text []string
}

func (s *said) Emit(e progress.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Kind == progress.Notice {
		s.text = append(s.text, e.Text)
	}
}

// Branches of one kimg that want the same image, or images over one base, make each
// once, and take nobody for another kimg.
func TestEnsureIsOncePerProcess(t *testing.T) {
	st := debtest.Store(t)
	l := testLock(t)
	deb := makeDeb(t, "", []entry{file("control", stanza("base"))}, nil)
	l.Base = []archive.Locked{debtest.Put(t, st, "base", deb)}
	l.Packages = []archive.Locked{debtest.Put(t, st, "make", []byte("a package"))}
	sibling := *l
	sibling.Target = "trixie-gcc-13"

	eng := &memory{images: map[string]bool{}}
	sink := &said{}
	m := Maker{Engine: eng, Archive: &archive.Client{Store: st, Arch: arch.AMD64}, Locks: t.TempDir(),
		Task: progress.Start(sink, "toolchain", "Toolchain")}
	want := []*Lock{l, &sibling, l, &sibling, l}
	made := make([]bool, len(want))
	var wg sync.WaitGroup
	for i, l := range want {
		wg.Go(func() {
			image, err := m.Ensure(t.Context(), l)
			if err != nil || image.Ref != l.Ref() {
				t.Errorf("%+v, %v", image, err)
			}
			made[i] = image.Made
		})
	}
	wg.Wait()
	counts := map[string]int{}
	for _, ref := range eng.made {
		counts[ref]++
	}
	if len(eng.made) != 3 || counts[l.baseRef()] != 1 || counts[l.Ref()] != 1 || counts[sibling.Ref()] != 1 {
		t.Errorf("made %q", eng.made)
	}
	var makers int
	for _, m := range made {
		if m {
			makers++
		}
	}
	if makers != 2 {
		t.Errorf("%d calls say that they made an image, want 2", makers)
	}
	if len(sink.text) > 0 {
		t.Errorf("it says %q", sink.text)
	}
}
