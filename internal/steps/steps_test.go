package steps

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/store"
)

func newRunner(t *testing.T) *Runner {
	t.Helper()
	dir := t.TempDir()
	st, err := store.Open(filepath.Join(dir, "store"))
	if err != nil {
		t.Fatal(err)
	}
	return &Runner{Cache: &Cache{Dir: filepath.Join(dir, "actions"), Store: st}, Logs: filepath.Join(dir, "logs")}
}

// renew is a second kimg with the same cache.
func renew(r *Runner) *Runner { return &Runner{Cache: r.Cache, Sink: r.Sink, Logs: r.Logs} }

func writes(ran *atomic.Int32, text string) func(context.Context, Results, *Outputs, *progress.Task) error {
	return func(_ context.Context, _ Results, out *Outputs, _ *progress.Task) error {
		ran.Add(1)
		return out.Add("file", 0o644, strings.NewReader(text))
	}
}

func TestUnchangedIsNotRunAgain(t *testing.T) {
	r := newRunner(t)
	var before, after atomic.Int32
	plan := func(config string) *Step {
		a := &Step{ID: "a", Run: writes(&before, "a")}
		return &Step{ID: "b", Reads: []Fact{{"config", config}}, After: []*Step{a}, Run: writes(&after, config)}
	}
	check := func(config string, wantA, wantB int32) {
		t.Helper()
		if _, err := renew(r).Get(t.Context(), plan(config)); err != nil {
			t.Fatal(err)
		}
		if before.Load() != wantA || after.Load() != wantB {
			t.Errorf("config %s: a ran %d times and b %d, want %d and %d", config, before.Load(), after.Load(), wantA, wantB)
		}
	}
	check("1", 1, 1)
	check("1", 1, 1)
	check("2", 1, 2) // an edited config is built, what it stands on is not
	check("1", 1, 2) // and going back finds the first result
}

func TestFailureIsNotRemembered(t *testing.T) {
	r := newRunner(t)
	boom := errors.New("boom")
	fails := true
	s := &Step{ID: "s", Run: func(_ context.Context, _ Results, out *Outputs, task *progress.Task) error {
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
	}}
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
	shared := &Step{ID: "shared", Run: writes(&ran, "s")}
	var wanted []*Step
	for _, id := range []string{"x", "y", "z"} {
		wanted = append(wanted, &Step{ID: id, After: []*Step{shared}, Run: writes(&other, id)})
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
	s := &Step{ID: "s", Run: writes(&ran, "content")}
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
	s := &Step{ID: "image", Ready: func(context.Context) (bool, error) { return ran.Load() > 0, nil }, Run: writes(&ran, "")}
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
		tool := &Step{ID: "tool", Run: writes(&n, "t")}
		k := &Step{ID: "kernel", Reads: []Fact{{"config", config}}, After: []*Step{tool}, Run: writes(&n, config)}
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
	a := &Step{ID: "s", Reads: []Fact{{"ab", "c"}}}
	b := &Step{ID: "s", Reads: []Fact{{"a", "bc"}}}
	c := &Step{ID: "s", Reads: []Fact{{"a", "b"}, {"c", ""}}}
	if a.ActionID() == b.ActionID() || b.ActionID() == c.ActionID() || a.ActionID() == c.ActionID() {
		t.Error("different facts, the same ActionID")
	}
}
