package checks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/kimg/kimg/internal/splat"
)

// Verdict is what became of a check.
type Verdict string

// The verdicts.
const (
	Passed Verdict = "passed"
	Failed Verdict = "failed"
	NotRun Verdict = "not-run"
)

// Cause says what a failure is due to. Worse ones come later.
type Cause string

// The causes.
const (
	Unmet      Cause = "unmet" // the guest stopped elsewhere, an expression was refused, or the command failed
	GuestFault Cause = "guest" // the guest panicked, hung, never reached the breakpoint, or its kernel complained
	KimgFault  Cause = "kimg"  // kimg, or a tool that it uses, failed
)

// Outcome is what became of a check, and all that the reports say of it.
type Outcome struct {
	Name    string   `json:"name"`
	Verdict Verdict  `json:"verdict"`
	Cause   Cause    `json:"cause,omitempty"`   // of a failure
	Reasons []string `json:"reasons,omitempty"` // of a failure, or for not running it; the first is the gravest
	Seconds float64  `json:"seconds"`

	Break  string        `json:"break,omitempty"`
	When   When          `json:"when,omitempty"`
	By     string        `json:"by,omitempty"`
	Expect []Expectation `json:"expect,omitempty"`
	Stop   *Stop         `json:"stop,omitempty"`
	Values []Value       `json:"print,omitempty"`

	Splats    []Splat  `json:"splats,omitempty"` // what the kernel complained of
	Command   *Command `json:"command,omitempty"`
	Console   []string `json:"console,omitempty"`   // the last lines of the serial console, of a check that failed
	Recording string   `json:"recording,omitempty"` // of the guest, in the out directory; beside the report, too
	Directory string   `json:"directory,omitempty"`

	err         error // the one of KimgFault
	splats      Policy
	unexplained bool // kimg why cannot be asked about the recording
}

// Command is the command that ran in the guest.
type Command struct {
	Script string `json:"run"`
	Status *int   `json:"status,omitempty"` // none: it did not run to its end
	Stdout string `json:"stdout"`           // the last of it
	Stderr string `json:"stderr"`
}

func judge(c Check, s Seen) Outcome {
	o := outcome(c)
	o.Verdict, o.Stop, o.Values = Passed, s.Stop, s.Values
	fail := func(cause Cause, format string, args ...any) {
		if o.Verdict == Passed {
			o.Verdict, o.Cause = Failed, cause // the first is the gravest
		}
		o.Reasons = append(o.Reasons, fmt.Sprintf(format, args...))
	}
	switch {
	case s.Err != nil && s.Guest:
		fail(GuestFault, "%v", s.Err)
	case s.Err != nil:
		o.err = s.Err
		fail(KimgFault, "%v", s.Err)
	}
	o.Splats, o.splats = c.weigh(s.Splats), cmp.Or(c.Splats, Fail)
	for _, found := range o.Splats {
		if found.Allowed == "" && o.splats == Fail {
			fail(GuestFault, "the kernel complained: %s", found)
		}
	}
	if s.Stop != nil {
		for _, e := range c.Expect {
			if unmet := e.unmet(s.Stop.Frames); unmet != "" {
				fail(Unmet, "%s", unmet)
			}
		}
	}
	for _, v := range s.Values {
		if v.Error != "" {
			fail(Unmet, "print %s: %s", v.Expression, v.Error)
		}
	}
	if c.Run != "" {
		o.Command = &Command{Script: c.Run, Status: s.Status}
		if s.Status != nil && *s.Status != 0 {
			fail(Unmet, "the command ended with status %d", *s.Status)
		}
	}
	if o.Verdict == Passed && (c.Break != "" && s.Stop == nil || c.Run != "" && s.Status == nil) {
		o.err = errors.New("nothing was seen of the check")
		fail(KimgFault, "%v", o.err)
	}
	if o.Verdict == Failed {
		o.Console = s.Console
	}
	return o
}

func notRun(c Check, why string) Outcome {
	o := outcome(c)
	o.Verdict, o.Reasons = NotRun, []string{why}
	return o
}

func outcome(c Check) Outcome {
	return Outcome{Name: c.Name, Break: c.Break, When: c.When, By: c.By, Expect: c.Expect}
}

// Report is what became of all checks.
type Report struct {
	Version     int       `json:"version"` // of this format: 1
	Kimg        string    `json:"kimg"`
	Suite       string    `json:"suite"`            // the file of checks, or the command
	Kernel      string    `json:"kernel,omitempty"` // its release
	Started     time.Time `json:"started"`
	Seconds     float64   `json:"seconds"`
	Passed      int       `json:"passed"`
	Failed      int       `json:"failed"`
	NotRun      int       `json:"not_run"`
	Interrupted bool      `json:"interrupted"`
	Checks      []Outcome `json:"checks"`
}

// reportVersion is that of the JSON format.
const reportVersion = 1

// Cause is the worst cause of a failure; empty where there is none.
func (r *Report) Cause() Cause {
	var worst Cause
	for _, o := range r.Checks {
		if o.Cause == KimgFault || o.Cause == GuestFault && worst != KimgFault || worst == "" {
			worst = o.Cause
		}
	}
	return worst
}

// Fault is the first of kimg's own faults.
func (r *Report) Fault() error {
	for _, o := range r.Checks {
		if o.err != nil {
			return fmt.Errorf("check %s: %w", o.Name, o.err)
		}
	}
	return nil
}

func (r *Report) add(o Outcome) {
	switch r.Checks = append(r.Checks, o); o.Verdict {
	case Passed:
		r.Passed++
	case Failed:
		r.Failed++
	case NotRun:
		r.NotRun++
	}
}

func interrupted(ctx context.Context) bool { return ctx.Err() != nil }

// Streams take what a guest says.
type Streams struct {
	Console        io.Writer // the serial console
	Stdout, Stderr io.Writer // the check's command
}

// Seen is what a guest did for a check, up to its end or an error.
type Seen struct {
	Stop    *Stop
	Values  []Value
	Status  *int     // the command's exit status; nil: it was not run to its end
	Console []string // the last lines of the serial console
	GDBLog  string   // the debugger's commands and answers
	Splats  []*splat.Report
	Err     error // what kept the check from its end
	Guest   bool  // Err is the guest's: it panicked, hung, or did not reach the breakpoint

	Recording Recording // the guest's; nil: there is none
}

// Stop is where a guest stopped.
type Stop struct {
	Frames    []Frame  `json:"frames"`         // the innermost first
	Task      string   `json:"task,omitempty"` // the process that did, where it is known
	Backtrace []string `json:"backtrace"`      // as the debugger prints it
}

// Frame is a function that was called and has not returned.
type Frame struct {
	Function string `json:"function,omitempty"`
	File     string `json:"file,omitempty"` // in the kernel's tree
	Line     int    `json:"line,omitempty"`
}

func (f Frame) name() string { return cmp.Or(f.Function, "??") }

// String reads "in do_sys_open at fs/open.c:1416".
func (f Frame) String() string {
	if f.File == "" {
		return "in " + f.name()
	}
	return fmt.Sprintf("in %s at %s:%d", f.name(), f.File, f.Line)
}

// String reads "stopped in do_sys_open at fs/open.c:1416, by cat (pid 312)".
func (s *Stop) String() string {
	text := "stopped"
	if len(s.Frames) > 0 {
		text += " " + s.Frames[0].String()
	}
	if s.Task != "" {
		text += ", by " + s.Task
	}
	return text
}

// Value is what the debugger made of an expression, or why it refused it.
type Value struct {
	Expression string `json:"expression"`
	Value      string `json:"value,omitempty"`
	Error      string `json:"error,omitempty"`
}

// both writes to one or two writers, by whole writes.
type both struct {
	mu   sync.Mutex
	a, b io.Writer // may be nil
}

func (w *both) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, to := range []io.Writer{w.a, w.b} {
		if to == nil {
			continue
		}
		if _, err := to.Write(p); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}
