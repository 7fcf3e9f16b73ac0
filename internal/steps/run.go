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

	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/progress"
)

// Runner runs the steps that are asked for and, before each, the steps that it reads from; those that do not depend
// on each other run side by side. A step whose record is there is not run, and neither is what only it would need.
type Runner struct {
	Cache *Cache
	Sink  progress.Sink
	Logs  string          // directory of whole step logs
	Work  map[string]Work // what each step does, by the step's ID
}

// Get returns the records of the wanted steps, by ID. The first failure stops all that runs, and is the error.
func (r *Runner) Get(ctx context.Context, wanted ...*Step) (Results, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	run := &running{Runner: r, ctx: ctx, fail: cancel, results: map[*Step]*result{}}
	res, err := run.all(wanted)
	run.steps.Wait() // what was stopped cleans up
	if err != nil {
		err = errors.Join(append([]error{err}, run.left...)...)
	}
	return res, err
}

// running is one Get. Every step runs under its context, and not under that of whoever asked for the step first.
type running struct {
	*Runner
	ctx   context.Context
	fail  context.CancelCauseFunc
	steps sync.WaitGroup

	mu      sync.Mutex
	results map[*Step]*result
	left    []error // what stopped steps could not clean up
}

// result may be read once done is closed.
type result struct {
	done chan struct{}
	rec  Record
}

// all runs the wanted steps and waits for them, or for the first failure.
func (r *running) all(wanted []*Step) (Results, error) {
	var begun []*result
	for _, s := range wanted {
		begun = append(begun, r.begin(s))
	}
	all := Results{}
	for i, s := range wanted {
		select {
		case <-begun[i].done:
		case <-r.ctx.Done():
			return nil, context.Cause(r.ctx)
		}
		all[s.ID] = begun[i].rec
	}
	return all, nil
}

// begin starts a step once, however many ask for it.
func (r *running) begin(s *Step) *result {
	r.mu.Lock()
	defer r.mu.Unlock()
	if res := r.results[s]; res != nil {
		return res
	}
	res := &result{done: make(chan struct{})}
	r.results[s] = res
	r.steps.Go(func() {
		rec, err := r.run(s)
		if err != nil {
			r.fail(err)
			return // nobody reads a result after a failure
		}
		res.rec = rec
		close(res.done)
	})
	return res
}

func (r *running) run(s *Step) (Record, error) {
	ctx := r.ctx
	if ctx.Err() != nil {
		return Record{}, context.Cause(ctx)
	}
	work, ok := r.Work[s.ID]
	if !ok {
		return Record{}, fmt.Errorf("run step %s: nothing is known to do it", s.ID)
	}
	id := s.ActionID()
	if work.Ready != nil {
		ok, err := work.Ready(ctx)
		if err != nil {
			return Record{}, fmt.Errorf("%s: %w", s.ID, err)
		}
		if ok {
			progress.Cached(r.Sink, s.ID, s.Title)
			return Record{Step: s.ID, Reads: s.Reads}, nil
		}
	} else if rec, ok := r.Cache.Load(id); ok {
		progress.Cached(r.Sink, s.ID, s.Title)
		return rec, nil
	}
	in, err := r.all(s.After)
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
	err = work.Run(ctx, in, out, task)
	rec := Record{Step: s.ID, Reads: s.Reads, Outputs: out.outs, Notes: out.notes}
	if err == nil {
		err = r.Cache.save(id, rec)
	}
	switch {
	case err == nil:
	case ctx.Err() != nil: // whatever it says, it was stopped
		r.leave(err)
		err = context.Canceled
	default:
		err = &StepError{Step: s.ID, Log: name, Err: err}
	}
	task.End(false, err)
	return rec, err
}

// leave keeps what a stopped step reports besides: something that it could not remove, say.
func (r *running) leave(err error) {
	stopped := func(err error) bool { return errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(r.ctx)) }
	if !stopped(err) {
		return // a tool that was killed, say: no more than being stopped
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var walk func(error)
	walk = func(err error) {
		if errors.Is(context.Cause(r.ctx), err) {
			return // the failure that stopped it, which is reported already
		}
		switch e := err.(type) {
		case interface{ Unwrap() []error }:
			for _, one := range e.Unwrap() {
				if stopped(one) {
					walk(one)
				} else {
					r.left = append(r.left, one)
				}
			}
		case interface{ Unwrap() error }:
			walk(e.Unwrap())
		}
	}
	walk(err)
}

// StepError is a step's failure; Log names the file with all that it printed.
type StepError struct {
	Step string
	Log  string
	Err  error
}

func (e *StepError) Error() string { return e.Step + ": " + e.Err.Error() }

func (e *StepError) Unwrap() error { return e.Err }

// keepLogs is how many logs of earlier runs of one step stay.
const keepLogs = 5

func (r *Runner) log(s *Step) (io.WriteCloser, string, error) {
	if err := os.MkdirAll(r.Logs, 0o755); err != nil {
		return nil, "", fmt.Errorf("keep the log of %s: %w", s.ID, err)
	}
	old, _ := filepath.Glob(filepath.Join(r.Logs, s.ID+"-[0-9]*T*.log")) // the pattern is well formed
	for ; len(old) >= keepLogs; old = old[1:] {
		// Names sort by time; that of a step that runs stays, and does no harm.
		if f, err := filelock.Try(old[0], os.O_RDWR); err == nil {
			_ = os.Remove(old[0])
			_ = f.Close()
		}
	}
	at := time.Now().UTC().Format("20060102T150405")
	name := filepath.Join(r.Logs, fmt.Sprintf("%s-%s-%d.log", s.ID, at, os.Getpid()))
	f, err := filelock.Try(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return nil, "", fmt.Errorf("keep the log of %s: %w", s.ID, err)
	}
	return f, name, nil
}

// Status tells, without running anything, what Get would do with a step.
type Status struct {
	Step   *Step
	Cached bool
	Needed bool     // it would be run
	Why    []string // what differs from the last known action, in words
}

// Explain says for each step, in the order given (every step after those it reads from), whether it would run and
// why. last holds the ActionIDs of an earlier run by step ID, and may be nil. A step whose Ready fails (there is no
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
		if ready := r.Work[s.ID].Ready; ready != nil {
			st[i].Cached, unknown = ready(ctx)
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
	old := map[string]Fact{}
	for _, f := range reads {
		old[f.Name] = f
	}
	var why []string
	for _, f := range s.Reads {
		was, had := old[f.Name]
		switch {
		case !had:
			why = append(why, f.Name+" is new")
		case was.Value != f.Value:
			why = append(why, fmt.Sprintf("%s changed: %s -> %s", f.Name, brief(was.String()), brief(f.String())))
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
