package steps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/store"
	"github.com/kimg/kimg/internal/units"
)

func newRunner(t *testing.T) *Runner {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(filepath.Join(dir, "store"))
	if err != nil {
		t.Fatal(err)
	}
	return &Runner{Cache: &Cache{Dir: filepath.Join(dir, "actions"), Store: st},
		Logs: filepath.Join(dir, "logs"), Work: map[string]Work{}}
}

// renew is a second kimg with the same cache.
func renew(r *Runner) *Runner {
	return &Runner{Cache: r.Cache, Sink: r.Sink, Logs: r.Logs, Work: r.Work}
}

// step adds a step and what it does.
func step(r *Runner, s Step, w Work) *Step {
	r.Work[s.ID] = w
	return &s
}

func writes(ran *atomic.Int32, text string) Work {
	return Work{Run: func(_ context.Context, _ Results, out *Outputs, _ *progress.Task) error {
		ran.Add(1)
		return out.Add("file", 0o644, strings.NewReader(text))
	}}
}

func TestUnchangedIsNotRunAgain(t *testing.T) {
	r := newRunner(t)
	var before, after atomic.Int32
	plan := func(config string) *Step {
		a := step(r, Step{ID: "a"}, writes(&before, "a"))
		reads := []Fact{{Name: "config", Value: config}}
		return step(r, Step{ID: "b", Reads: reads, After: []*Step{a}}, writes(&after, config))
	}
	check := func(config string, wantA, wantB int32) {
		t.Helper()
		if _, err := renew(r).Get(t.Context(), plan(config)); err != nil {
			t.Fatal(err)
		}
		if before.Load() != wantA || after.Load() != wantB {
			t.Errorf(
				"config %s: a ran %d times and b %d, want %d and %d",
				config,
				before.Load(),
				after.Load(),
				wantA,
				wantB,
			)
		}
	}
	check("1", 1, 1)
	check("1", 1, 1)
	check("2", 1, 2) // an edited config is built, what it stands on is not
	check("1", 1, 2) // and going back finds the first result
}

// How a step was done is remembered with what it made, and names nothing else.
func TestNotes(t *testing.T) {
	r := newRunner(t)
	var ids []units.Digest
	for _, how := range []string{"", "by hand"} {
		work := func(_ context.Context, _ Results, out *Outputs, _ *progress.Task) error {
			if how != "" {
				out.Note(how)
			}
			return out.Add("file", 0o644, strings.NewReader("text"))
		}
		s := step(r, Step{ID: "a" + how}, Work{Run: work})
		for range 2 { // it runs, and is remembered
			res, err := renew(r).Get(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(res[s.ID].Notes, "; "); got != how {
				t.Errorf("%q was noted, want %q", got, how)
			}
			ids = append(ids, res[s.ID].OutputID())
		}
	}
	if len(slices.Compact(ids)) != 1 {
		t.Errorf("the same outputs have the names %q", ids)
	}
}

func TestFailureIsNotRemembered(t *testing.T) {
	r := newRunner(t)
	boom := errors.New("boom")
	fails := true
	s := step(r, Step{ID: "s"}, Work{Run: func(_ context.Context, _ Results, out *Outputs, task *progress.Task) error {
		if err := out.Add("half", 0o644, strings.NewReader("x")); err != nil {
			return err
		}
		if _, err := task.Log().Write([]byte("what went wrong\n")); err != nil {
			return err
		}
		if fails {
			return boom
		}
		return nil
	}})
	_, err := r.Get(t.Context(), s)
	var se *StepError
	if !errors.Is(err, boom) || !errors.As(err, &se) {
		t.Fatalf("got %v, want a StepError of %v", err, boom)
	}
	if b, _ := os.ReadFile(se.Log); string(b) != "what went wrong\n" {
		t.Errorf("the log holds %q", b)
	}
	fails = false
	if _, err := renew(r).Get(t.Context(), s); err != nil {
		t.Errorf("second try: %v", err)
	}
}

func TestSharedStepRunsOnce(t *testing.T) {
	r := newRunner(t)
	var ran, other atomic.Int32
	shared := step(r, Step{ID: "shared"}, writes(&ran, "s"))
	var wanted []*Step
	for _, id := range []string{"x", "y", "z"} {
		wanted = append(wanted, step(r, Step{ID: id, After: []*Step{shared}}, writes(&other, id)))
	}
	res, err := r.Get(t.Context(), wanted...)
	if err != nil {
		t.Fatal(err)
	}
	if ran.Load() != 1 || other.Load() != 3 || len(res) != 3 {
		t.Errorf("shared ran %d times, the others %d, %d results", ran.Load(), other.Load(), len(res))
	}
}

func TestLostOutputIsAMiss(t *testing.T) {
	r := newRunner(t)
	var ran atomic.Int32
	s := step(r, Step{ID: "s"}, writes(&ran, "content"))
	res, err := r.Get(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	o, ok := res["s"].Find("file")
	if !ok {
		t.Fatal("no output")
	}
	if err := os.Remove(r.Cache.Store.Path(o.Digest)); err != nil {
		t.Fatal(err)
	}
	if _, err := renew(r).Get(t.Context(), s); err != nil || ran.Load() != 2 {
		t.Errorf("ran %d times, %v; want a second run", ran.Load(), err)
	}
	if err := os.WriteFile(r.Cache.file(s.ActionID()), []byte("{broken"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := renew(r).Get(t.Context(), s); err != nil || ran.Load() != 3 {
		t.Errorf("ran %d times, %v; want a third run", ran.Load(), err)
	}
}

func TestReadyStepIsNotRun(t *testing.T) {
	r := newRunner(t)
	var ran atomic.Int32
	w := writes(&ran, "")
	w.Ready = func(context.Context) (bool, error) { return ran.Load() > 0, nil }
	s := step(r, Step{ID: "image"}, w)
	for range 2 {
		if _, err := renew(r).Get(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	if ran.Load() != 1 {
		t.Errorf("ran %d times", ran.Load())
	}
}

func TestExplainNamesWhatChanged(t *testing.T) {
	r := newRunner(t)
	var n atomic.Int32
	plan := func(config string) []*Step {
		tool := step(r, Step{ID: "tool"}, writes(&n, "t"))
		reads := []Fact{{Name: "config", Value: "whole digest of " + config, Shown: config}}
		k := step(r, Step{ID: "kernel", Reads: reads, After: []*Step{tool}}, writes(&n, config))
		return []*Step{tool, k}
	}
	first := plan("old")
	if _, err := r.Get(t.Context(), first[1]); err != nil {
		t.Fatal(err)
	}
	last := map[string]ActionID{"tool": first[0].ActionID(), "kernel": first[1].ActionID()}
	st := renew(r).Explain(t.Context(), plan("new"), last)
	if !st[0].Cached || st[1].Cached || !st[1].Needed {
		t.Errorf("status %+v", st)
	}
	if want := []string{"config changed: old -> new"}; !slices.Equal(st[1].Why, want) {
		t.Errorf("why %q, want %q", st[1].Why, want)
	}
}

func TestActionIDsDoNotRunTogether(t *testing.T) {
	a := &Step{ID: "s", Reads: []Fact{{Name: "ab", Value: "c"}}}
	b := &Step{ID: "s", Reads: []Fact{{Name: "a", Value: "bc"}}}
	c := &Step{ID: "s", Reads: []Fact{{Name: "a", Value: "b"}, {Name: "c"}}}
	if a.ActionID() == b.ActionID() || b.ActionID() == c.ActionID() || a.ActionID() == c.ActionID() {
		t.Error("different facts, the same ActionID")
	}
}

// What users see of a fact is no part of the key, and no short form is in it.
func TestActionIDsAreOfWholeValues(t *testing.T) {
	d := units.DigestOf([]byte("x"))
	other := d[:63] + "0"
	if other == d {
		other = d[:63] + "1"
	}
	of := func(f Fact) ActionID { return (&Step{ID: "s", Reads: []Fact{f}}).ActionID() }
	if of(DigestFact("patches", d, "a.patch")) == of(DigestFact("patches", other, "a.patch")) {
		t.Error("digests that differ in their last digit have one ActionID")
	}
	if of(DigestFact("patches", d, "a.patch")) == of(DigestFact("patches", d, "b.patch")) {
		t.Error("two names have one ActionID")
	}
	if of(Fact{Name: "a", Value: "b", Shown: "c"}) != of(Fact{Name: "a", Value: "b", Shown: "d"}) {
		t.Error("what is shown is in the key")
	}
}

// The first failure stops what runs beside it at once, though neither needs the
// other: this is the plan's own diamond, in which the packages fail while the image
// of the tools is being made.
func TestFirstFailureStopsTheRest(t *testing.T) {
	r := newRunner(t)
	gone := errors.New("a package is gone")
	begun := make(chan struct{})
	var later atomic.Int32
	imaging := step(
		r,
		Step{ID: "imaging"},
		Work{Run: func(ctx context.Context, _ Results, _ *Outputs, _ *progress.Task) error {
			close(begun)
			<-ctx.Done() // for ever, unless it is stopped
			inner := fmt.Errorf("deliver: %w", errors.Join(ctx.Err(), errors.New("a container stayed")))
			return errors.Join(inner, errors.New("a volume stayed"))
		}},
	)
	packages := step(r, Step{ID: "packages"}, Work{Run: func(context.Context, Results, *Outputs, *progress.Task) error {
		<-begun
		return gone
	}})
	rootfs := step(r, Step{ID: "rootfs", After: []*Step{imaging, packages}}, writes(&later, "rootfs"))
	image := step(r, Step{ID: "image", After: []*Step{imaging, rootfs}}, writes(&later, "image"))
	_, err := r.Get(t.Context(), image)
	var failed *StepError
	if !errors.Is(err, gone) || !errors.As(err, &failed) || failed.Step != "packages" {
		t.Errorf("got %v, want the failure of packages", err)
	}
	if err == nil || !strings.Contains(err.Error(), "a container stayed") ||
		!strings.Contains(err.Error(), "a volume stayed") {
		t.Errorf("what the stopped step left behind is lost: %v", err)
	}
	if later.Load() != 0 {
		t.Error("a step ran whose inputs failed")
	}
}

// What is stopped for another's failure is told as stopped, whatever it says itself.
func TestStoppedIsNotFailed(t *testing.T) {
	r := newRunner(t)
	var ends sync.Map
	r.Sink = sinkFunc(func(e progress.Event) {
		if e.Kind == progress.Ended {
			ends.Store(e.Step, e.Stopped)
		}
	})
	var begun sync.WaitGroup
	begun.Add(2)
	kernel := step(r, Step{ID: "kernel"}, Work{Run: func(ctx context.Context, _ Results, _ *Outputs,
		_ *progress.Task) error {
		begun.Done()
		<-ctx.Done()
		return errors.New("unpack linux.tar: it is cut short or damaged")
	}})
	fetch := step(r, Step{ID: "fetch"}, Work{Run: func(ctx context.Context, _ Results, _ *Outputs,
		_ *progress.Task) error {
		begun.Done()
		<-ctx.Done()
		return fmt.Errorf("fetch: %w", errors.Join(ctx.Err(), context.Cause(ctx))) // as an engine's calls have it
	}})
	rootfs := step(r, Step{ID: "rootfs"}, Work{Run: func(context.Context, Results, *Outputs, *progress.Task) error {
		begun.Wait()
		return errors.Join(errors.New("debootstrap: exit status 1"), nil)
	}})
	_, err := r.Get(t.Context(), kernel, fetch, rootfs)
	if err == nil || err.Error() != "rootfs: debootstrap: exit status 1" {
		t.Errorf("got %v", err)
	}
	for id, want := range map[string]bool{"kernel": true, "rootfs": false} {
		if stopped, ok := ends.Load(id); !ok || stopped != want {
			t.Errorf("%s: stopped %v, want %t", id, stopped, want)
		}
	}
}

type sinkFunc func(progress.Event)

func (f sinkFunc) Emit(e progress.Event) { f(e) }

// Whoever cancels is told so, and not that a step failed.
func TestCancelled(t *testing.T) {
	r := newRunner(t)
	ctx, cancel := context.WithCancel(t.Context())
	s := step(r, Step{ID: "s"}, Work{Run: func(ctx context.Context, _ Results, _ *Outputs, _ *progress.Task) error {
		cancel()
		<-ctx.Done()
		return errors.New("the tool was killed")
	}})
	_, err := r.Get(ctx, s)
	var failed *StepError
	if !errors.Is(err, context.Canceled) || errors.As(err, &failed) {
		t.Errorf("got %v", err)
	}
}
