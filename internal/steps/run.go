package steps

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/progress"
)

// Runner runs the steps that are asked for and, before each, the steps that it
// reads from; those that do not depend on each other run side by side. A step
// whose record is there is not run, and neither is what only it would need.
type Runner struct {
	Cache *Cache
	Sink  progress.Sink
	Logs  string // directory of whole step logs
	Fresh bool   // run every step anew, whatever is remembered (and remember the new result)

	mu   sync.Mutex
	once map[*Step]func(context.Context) (Record, error)
}

// Get returns the records of the wanted steps, by ID. The first failure stops
// the others.
func (r *Runner) Get(ctx context.Context, wanted ...*Step) (Results, error) {
	var mu sync.Mutex
	res := Results{}
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range wanted {
		g.Go(func() error {
			rec, err := r.need(ctx, s)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			res[s.ID] = rec
			return nil
		})
	}
	err := g.Wait()
	return res, err
}

// need runs a step once in the life of the runner, however many ask for it.
func (r *Runner) need(ctx context.Context, s *Step) (Record, error) {
	r.mu.Lock()
	if r.once == nil {
		r.once = map[*Step]func(context.Context) (Record, error){}
	}
	f := r.once[s]
	if f == nil {
		done := make(chan struct{})
		var rec Record
		var err error
		var begin sync.Once
		f = func(ctx context.Context) (Record, error) {
			begin.Do(func() { rec, err = r.run(ctx, s); close(done) })
			<-done
			return rec, err
		}
		r.once[s] = f
	}
	r.mu.Unlock()
	return f(ctx)
}

func (r *Runner) run(ctx context.Context, s *Step) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	id := s.ActionID()
	if s.Ready != nil {
		ok, err := s.Ready(ctx)
		if err != nil {
			return Record{}, fmt.Errorf("%s: %w", s.ID, err)
		}
		if ok {
			r.cached(s)
			return Record{Step: s.ID, Reads: s.Reads}, nil
		}
	} else if rec, ok := r.Cache.Load(id); ok && !r.Fresh {
		r.cached(s)
		return rec, nil
	}
	in, err := r.Get(ctx, s.After...)
	if err != nil {
		return Record{}, err
	}
	log, name, err := r.log(s)
	if err != nil {
		return Record{}, err
	}
	defer log.Close()
	task := progress.Start(r.Sink, s.ID, s.Title, progress.LogTo(log, name))
	out := &Outputs{store: r.Cache.Store}
	err = s.Run(ctx, in, out, task)
	rec := Record{Step: s.ID, Reads: s.Reads, Outputs: out.outs}
	if err == nil {
		err = r.Cache.save(id, rec)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		err = &StepError{Step: s.ID, Log: name, Err: err}
	}
	task.End(false, err)
	return rec, err
}

// StepError is a step's failure; Log names the file with all that it printed.
type StepError struct {
	Step string
	Log  string
	Err  error
}

func (e *StepError) Error() string { return e.Step + ": " + e.Err.Error() }

// Unwrap gives the step's own error.
func (e *StepError) Unwrap() error { return e.Err }

func (r *Runner) cached(s *Step) {
	progress.Cached(r.Sink, s.ID, s.Title)
}

// keepLogs is how many logs of earlier runs of one step stay.
const keepLogs = 5

func (r *Runner) log(s *Step) (io.WriteCloser, string, error) {
	if err := os.MkdirAll(r.Logs, 0o755); err != nil {
		return nil, "", fmt.Errorf("keep the log of %s: %w", s.ID, err)
	}
	old, _ := filepath.Glob(filepath.Join(r.Logs, s.ID+"-[0-9]*T*.log")) // the pattern is well formed
	for ; len(old) >= keepLogs; old = old[1:] {
		removeLog(old[0]) // names sort by time; one that stays does no harm
	}
	name := filepath.Join(r.Logs, fmt.Sprintf("%s-%s-%d.log", s.ID, time.Now().UTC().Format("20060102T150405"), os.Getpid()))
	f, err := filelock.Try(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return nil, "", fmt.Errorf("keep the log of %s: %w", s.ID, err)
	}
	return f, name, nil
}

// removeLog removes a log, but not that of a step that runs.
func removeLog(name string) {
	if f, err := filelock.Try(name, os.O_RDWR); err == nil {
		_ = os.Remove(name)
		_ = f.Close()
	}
}

// Status tells, without running anything, what Get would do with a step.
type Status struct {
	Step   *Step
	Cached bool
	Needed bool     // it would be run
	Why    []string // what differs from the last known action, in words
}

// Explain says for each step, in the order given (every step after those it
// reads from), whether it would run and why. last holds the ActionIDs of an
// earlier run by step ID, and may be nil. A step whose Ready fails (there is no
// engine, say) counts as one that would run.
func (r *Runner) Explain(ctx context.Context, all []*Step, last map[string]ActionID) []Status {
	st := make([]Status, len(all))
	needed := map[*Step]bool{}
	reader := map[*Step]bool{}
	for _, s := range all {
		for _, p := range s.After {
			reader[p] = true
		}
	}
	for i := len(all) - 1; i >= 0; i-- {
		s := all[i]
		var unknown error
		if s.Ready != nil {
			st[i].Cached, unknown = s.Ready(ctx)
		} else {
			_, st[i].Cached = r.Cache.Load(s.ActionID())
		}
		st[i].Step = s
		st[i].Needed = !st[i].Cached && (!reader[s] || needed[s])
		if st[i].Needed {
			for _, p := range s.After {
				needed[p] = true
			}
		}
		st[i].Why = r.why(s, st[i], last)
		if unknown != nil && st[i].Needed {
			st[i].Why = []string{"cannot tell whether it is there: " + unknown.Error()}
		}
	}
	return st
}

func (r *Runner) why(s *Step, st Status, last map[string]ActionID) []string {
	switch {
	case st.Cached:
		return []string{"made before from the same inputs"}
	case !st.Needed:
		return []string{"nothing that would run reads it"}
	}
	reads, ok := r.Cache.Reads(last[s.ID])
	if !ok {
		return []string{"not made before"}
	}
	old := map[string]string{}
	for _, f := range reads {
		old[f.Name] = f.Value
	}
	var why []string
	for _, f := range s.Reads {
		was, had := old[f.Name]
		switch {
		case !had:
			why = append(why, f.Name+" is new")
		case was != f.Value:
			why = append(why, fmt.Sprintf("%s changed: %s -> %s", f.Name, brief(was), brief(f.Value)))
		}
		delete(old, f.Name)
	}
	for _, f := range reads {
		if _, left := old[f.Name]; left {
			why = append(why, f.Name+" is gone")
		}
	}
	for _, p := range s.After {
		if last[p.ID] != p.ActionID() {
			why = append(why, p.ID+" changed")
		}
	}
	if len(why) == 0 {
		why = append(why, "its result is no longer in the store")
	}
	return why
}

func brief(v string) string {
	if len(v) > 40 {
		return v[:37] + "..."
	}
	return v
}
