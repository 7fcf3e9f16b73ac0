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

// Runner runs checks, one after the other: each has the machine for itself.
type Runner struct {
	// Guest boots a guest, does what the check says, and ends it; the end of ctx does so at once.
	Guest func(ctx context.Context, c Check, s Streams) Seen

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
	for _, c := range list {
		o := notRun(c, why)
		if why == "" {
			var err error
			o, err = r.one(ctx, c)
			errs = append(errs, err)
		}
		switch {
		case interrupted(ctx):
			report.Interrupted, why = true, reasonInterrupted
		case o.Verdict == Failed && r.FailFast && why == "":
			why = "a check before it failed"
		}
		report.add(o)
		if r.Ended != nil {
			r.Ended(o)
		}
	}
	report.Seconds = seconds(time.Since(begun))
	return report, errors.Join(errs...)
}

const reasonInterrupted = "interrupted"

func (r *Runner) one(ctx context.Context, c Check) (Outcome, error) {
	if interrupted(ctx) {
		return notRun(c, reasonInterrupted), nil
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
			return judge(c, Seen{Err: err}), nil
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
	err := r.settleRecording(&o, seen.Recording)
	switch {
	case kept == nil:
	case o.Verdict == NotRun:
		err = errors.Join(err, kept.drop())
	default:
		err = errors.Join(err, kept.finish(ctx, &o, seen))
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
