// Package progress is how the parts of kimg report what they do. They emit typed events into a Sink; the renderers
// (live terminal, plain lines, JSON) are files of their own, and only they know what a screen looks like.
package progress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
	"unicode"
)

// Kind is what an Event is about.
type Kind string

// The kinds of events.
const (
	Started Kind = "started" // a step begins: Step, Title, Why
	Log     Kind = "log"     // one line a step printed: Step, Text
	Amount  Kind = "amount"  // how far a step is: Step, Done, Total (Total 0: not known), Unit
	Ended   Kind = "ended"   // a step ended: Step, Title, Cached, Stopped, Err, Elapsed, LogFile
	Notice  Kind = "notice"  // one line for the user: Text
	Warning Kind = "warning" // one line that the user should act on: Text
)

// Event is one thing that happened. Fields that a kind does not name are zero.
type Event struct {
	Kind    Kind          `json:"event"`
	Time    time.Time     `json:"time"`
	Step    string        `json:"step,omitempty"`
	Title   string        `json:"title,omitempty"`
	Why     string        `json:"why,omitempty"`
	Text    string        `json:"text,omitempty"`
	Done    int64         `json:"done,omitempty"`
	Total   int64         `json:"total,omitempty"`
	Unit    string        `json:"unit,omitempty"` // "bytes", "files", "objects"
	Cached  bool          `json:"cached,omitempty"`
	Stopped bool          `json:"stopped,omitempty"` // Err is a cancellation, not a fault of the step
	Err     string        `json:"error,omitempty"`
	Whole   bool          `json:"whole,omitempty"` // Err says all that there is to say: the log adds nothing
	LogFile string        `json:"log,omitempty"`
	Elapsed time.Duration `json:"elapsed_ns,omitempty"`
}

// Sink takes events. Emit is called from many goroutines and does not block for long. A nil Sink is silence.
type Sink interface{ Emit(Event) }

func emit(s Sink, e Event) {
	if s != nil {
		s.Emit(e)
	}
}

// Say emits a Notice.
func Say(s Sink, text string) { emit(s, Event{Kind: Notice, Time: time.Now(), Text: text}) }

// Warn emits a Warning.
func Warn(s Sink, text string) { emit(s, Event{Kind: Warning, Time: time.Now(), Text: text}) }

// Cached emits the end of a step that was not run.
func Cached(s Sink, step, title string) {
	emit(s, Event{Kind: Ended, Time: time.Now(), Step: step, Title: title, Cached: true})
}

// Task is a running step's handle on a Sink.
type Task struct {
	sink  Sink
	step  string
	title string
	begun time.Time
	name  string // the log file's name; may be empty

	mu      sync.Mutex
	file    io.Writer // the step's whole log; may be nil
	streams []*lineWriter
	done    int64
	last    time.Time
	ended   bool
}

// Option is what Start may also be given.
type Option func(*options)

type options struct {
	why, name string
	file      io.Writer
}

// Why says what the step works on, or why it runs.
func Why(text string) Option { return func(o *options) { o.why = text } }

// LogTo has all that is written to Task.Log written to w, too, the file name that a failure points the user to.
func LogTo(w io.Writer, name string) Option { return func(o *options) { o.file, o.name = w, name } }

// Start emits Started and returns the handle.
func Start(sink Sink, step, title string, opts ...Option) *Task {
	var o options
	for _, set := range opts {
		set(&o)
	}
	t := &Task{sink: sink, step: step, title: title, begun: time.Now(), file: o.file, name: o.name}
	emit(sink, Event{Kind: Started, Time: t.begun, Step: step, Title: title, Why: o.why})
	return t
}

// Say emits a notice from within the step.
func (t *Task) Say(text string) { Say(t.sink, text) }

// Warn emits a warning from within the step.
func (t *Task) Warn(text string) { Warn(t.sink, text) }

// Log returns a writer that splits what is written to it into Log events. Each call returns a writer with a line
// buffer of its own: one for each stream. A last line without an end is emitted by End.
func (t *Task) Log() io.Writer {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := &lineWriter{task: t}
	t.streams = append(t.streams, w)
	return w
}

// Add adds n to what is done and emits Amount, at most ten times a second. total 0 means not known.
func (t *Task) Add(n, total int64, unit string) {
	// Emitted under the lock: two goroutines would otherwise report 20 after 30.
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done += n
	now := time.Now()
	if now.Sub(t.last) < 100*time.Millisecond && t.done != total {
		return
	}
	t.last = now
	emit(t.sink, Event{Kind: Amount, Time: now, Step: t.step, Done: t.done, Total: total, Unit: unit})
}

// End emits Ended. err is the step's error or nil; one with a method TellsAll is shown without the step's last lines.
// cached says that nothing was run. What is written to a Log writer after End reaches the log file only. A second End
// does nothing, so it may be deferred.
func (t *Task) End(cached bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return
	}
	for _, w := range t.streams {
		w.emit(w.buf)
		w.buf = nil
	}
	t.ended = true
	e := Event{Kind: Ended, Time: time.Now(), Step: t.step, Title: t.title, Cached: cached,
		LogFile: t.name, Elapsed: time.Since(t.begun)}
	if err != nil {
		e.Err, e.Stopped = err.Error(), errors.Is(err, context.Canceled)
		var whole interface{ TellsAll() }
		e.Whole = errors.As(err, &whole)
	}
	emit(t.sink, e)
}

// maxLine bounds, in bytes, a line that a step prints without ever ending it.
const maxLine = 4096

// lineWriter is guarded by its task's lock: a step's streams share its log file, which gets whole writes only.
type lineWriter struct {
	task *Task
	buf  []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.task.mu.Lock()
	defer w.task.mu.Unlock()
	if w.task.file != nil {
		if _, err := w.task.file.Write(p); err != nil {
			return 0, fmt.Errorf("write log of step %s: %w", w.task.step, err)
		}
	}
	w.buf = append(w.buf, p...)
	for {
		// A carriage return ends a line too: it is how progress bars are drawn.
		end := bytes.IndexAny(w.buf, "\n\r")
		next := end + 1
		if end < 0 || end > maxLine {
			if len(w.buf) < maxLine {
				return len(p), nil
			}
			end, next = maxLine, maxLine
		}
		w.emit(w.buf[:end])
		w.buf = w.buf[next:]
	}
}

// emit keeps leading blanks: a compiler's caret points by them.
func (w *lineWriter) emit(line []byte) {
	line = bytes.TrimRightFunc(line, unicode.IsSpace)
	if len(line) > 0 && !w.task.ended {
		emit(w.task.sink, Event{Kind: Log, Time: time.Now(), Step: w.task.step, Text: string(line)})
	}
}
