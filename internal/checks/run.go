package checks

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/kimg/kimg/internal/version"
)

// Runner runs checks.
type Runner struct {
	// Guest boots a guest, does what the check says, and ends it; the end of ctx does so at once.
	Guest func(ctx context.Context, c Check, s Streams) Seen

	// Jobs is how many guests run at once. Of one, each check has the machine for itself, and begins when the one
	// before it was told of. The report of several is the same as if they came one after the other.
	Jobs     int
	Begin    func(c Check) (console io.Writer) // a check begins; may be nil, and the writer too
	Ended    func(o Outcome)                   // in order, for those that are not run too; may be nil
	FailFast bool                              // no further check after one that failed
	Keep     *Keeper                           // nil: nothing is kept
	Record   Records                           // which of the guests' recordings are kept
	Suite    string
	Kernel   string
}

// maxShown bounds what a report holds of each of a command's streams, in bytes: the last of it.
const maxShown = 64 << 10

// Run runs the checks. The report is complete whatever happened; the error is about what could not be kept.
func (r *Runner) Run(ctx context.Context, list []Check) (*Report, error) {
	report := &Report{Version: reportVersion, Kimg: version.String(), Suite: r.Suite, Kernel: r.Kernel,
		Started: time.Now().UTC().Truncate(time.Second)}
	begun := time.Now()
	var errs []error
	why := ""
	all, stop := context.WithCancel(ctx)
	defer stop()
	running, told := r.start(all, list)
	for i, c := range list {
		ran := <-running[i]
		if why == reasonFailed { // a check that had begun beside the one that failed counts as not begun
			ran.Outcome = notRun(c, why)
		}
		o, err := r.settle(ctx, ran)
		errs = append(errs, err)
		switch {
		case interrupted(ctx):
			report.Interrupted, why = true, reasonInterrupted
		case o.Verdict == Failed && r.FailFast && why == "":
			why = reasonFailed
		}
		report.add(o)
		if r.Ended != nil {
			r.Ended(o)
		}
		told()
	}
	report.Seconds = seconds(time.Since(begun))
	return report, errors.Join(errs...)
}

// start begins the checks, in their order, as many at once as there are jobs. told is called when one was told of.
func (r *Runner) start(ctx context.Context, list []Check) (running []chan ran, told func()) {
	jobs := max(1, r.Jobs)
	slots := make(chan struct{}, jobs)
	free := func() { <-slots }
	told, done := func() {}, free
	if jobs == 1 {
		told, done = free, func() {}
	}
	running = make([]chan ran, len(list))
	for i := range list {
		running[i] = make(chan ran, 1)
	}
	go func() {
		for i, c := range list {
			slots <- struct{}{}
			own := ctx
			behind, stop := context.WithCancel(ctx)
			ctx = behind // for all that come later
			go func() {
				ran := r.one(own, c)
				if r.FailFast && ran.Verdict == Failed {
					stop()
				}
				running[i] <- ran
				done()
			}()
		}
	}()
	return running, told
}

// Why a check is not run.
const (
	reasonInterrupted = "interrupted"
	reasonFailed      = "a check before it failed"
)

// ran is a check that has ended: its guest is gone, and what is kept of it not in its place yet.
type ran struct {
	Outcome
	seen Seen
	kept *kept // nil: nothing
}

func (r *Runner) one(ctx context.Context, c Check) ran {
	if interrupted(ctx) {
		return ran{Outcome: notRun(c, reasonInterrupted)}
	}
	var console io.Writer
	if r.Begin != nil {
		console = r.Begin(c)
	}
	stdout, stderr := &last{}, &last{}
	streams := Streams{Console: &both{a: console}, Stdout: &both{a: stdout}, Stderr: &both{a: stderr}}
	var kept *kept
	if r.Keep != nil {
		var err error
		if kept, err = r.Keep.begin(c); err != nil {
			return ran{Outcome: judge(c, Seen{Err: err})}
		}
		streams = kept.also(streams)
	}
	begun := time.Now()
	seen := r.Guest(ctx, c, streams)
	took := time.Since(begun)
	o := judge(c, seen)
	if interrupted(ctx) && o.Verdict == Failed {
		o = notRun(c, reasonInterrupted)
	}
	o.Seconds = seconds(took)
	if o.Command != nil {
		o.Command.Stdout, o.Command.Stderr = stdout.text(), stderr.text()
	}
	return ran{o, seen, kept}
}

// settle puts what is kept of a check in its place, or drops it.
func (r *Runner) settle(ctx context.Context, ran ran) (Outcome, error) {
	o := ran.Outcome
	err := r.settleRecording(&o, ran.seen.Recording)
	switch {
	case ran.kept == nil:
	case o.Verdict == NotRun:
		err = errors.Join(err, ran.kept.drop())
	default:
		err = errors.Join(err, ran.kept.finish(ctx, &o, ran.seen))
	}
	return o, err
}

// seconds rounds to milliseconds.
func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }

type last struct {
	mu  sync.Mutex
	buf []byte
	cut bool
}

func (l *last) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, p...)
	if len(l.buf) > 2*maxShown {
		l.buf, l.cut = append(l.buf[:0], l.buf[len(l.buf)-maxShown:]...), true
	}
	return len(p), nil
}

// text is what is kept, from the beginning of a line where something was cut off.
func (l *last) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text, cut := l.buf, l.cut
	if len(text) > maxShown {
		text, cut = text[len(text)-maxShown:], true
	}
	if cut {
		if at := bytes.IndexByte(text, '\n'); at >= 0 {
			text = text[at+1:]
		}
		return "[...]\n" + string(bytes.ToValidUTF8(text, []byte("\ufffd")))
	}
	return string(bytes.ToValidUTF8(text, []byte("\ufffd")))
}
