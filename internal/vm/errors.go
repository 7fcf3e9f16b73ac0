package vm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/kimg/kimg/internal/terminal"
	"github.com/kimg/kimg/internal/vm/kept"
)

// GuestError says that a guest, or its QEMU, ended or stopped when it should not have.
type GuestError struct {
	What    string
	Console []string
	Err     error // QEMU's, or nil

	panicked bool
}

func (e *GuestError) Error() string { return e.What }

func (e *GuestError) Unwrap() error { return e.Err }

// StartError says that QEMU gave up before the guest said anything: a file that it may not open, say. That is no
// fault of the guest's.
type StartError struct {
	What string
	Err  error // QEMU's
}

func (e *StartError) Error() string { return e.What }

func (e *StartError) Unwrap() error { return e.Err }

// Hint says what can be done where QEMU may not open a file.
func (e *StartError) Hint() string {
	if !strings.Contains(e.What, "Permission denied") {
		return ""
	}
	return "see as whom it runs (kimg engine) and whether that user may open the file; " +
		"KIMG_TOOLS=host takes this machine's own QEMU and gdb"
}

// tailLines is how much of a console is kept for an error: a panic with its registers and its stack.
const tailLines = 60

// tailLine bounds a line of it, in bytes.
const tailLine = 512

// tail keeps the last lines of what is written to it, as printable text.
type tail struct {
	also  io.Writer // gets every byte too; may be nil
	watch io.Writer // as well, and never fails; may be nil

	mu   sync.Mutex
	head []byte // the first of it as it came, up to kept.MaxConsole
	full []string
	line []byte
	last time.Time // when it was written to
}

func (t *tail) Write(p []byte) (int, error) {
	t.note(p)
	if t.also != nil {
		return t.also.Write(p)
	}
	return len(p), nil
}

// note keeps what the error or the watch needs of it.
func (t *tail) note(p []byte) {
	t.mu.Lock()
	t.last = time.Now()
	t.head = append(t.head, p[:min(len(p), kept.MaxConsole-len(t.head))]...)
	for _, b := range p {
		if b == '\n' || len(t.line) >= tailLine {
			t.push()
		}
		if b >= ' ' || b == '\t' || b == '\x1b' || b == '\a' { // what control sequences are made of
			t.line = append(t.line, b)
		}
	}
	t.mu.Unlock()
	if t.watch != nil {
		_, _ = t.watch.Write(p)
	}
}

// recall takes what a console has said in an earlier QEMU. A person need not see all that: prompt shows them the line
// that the cursor was on.
func (t *tail) recall(text []byte, person bool) (prompt func()) {
	if !person {
		_, _ = t.Write(text)
		return func() {}
	}
	t.note(text)
	return func() {
		if t.also != nil {
			_, _ = t.also.Write(text[bytes.LastIndexByte(text, '\n')+1:])
		}
	}
}

func (t *tail) push() {
	if line := strings.TrimRight(terminal.Plain(string(t.line)), " \t"); line != "" {
		if len(t.full) == tailLines {
			t.full = append(t.full[:0], t.full[1:]...)
		}
		t.full = append(t.full, line)
	}
	t.line = t.line[:0]
}

// cursor is how much there is of the last line, in bytes, and for how long that has been so.
func (t *tail) cursor() (column int, still time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.line), time.Since(t.last)
}

// first returns the first of what was written.
func (t *tail) first() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.head)
}

// lines returns what is kept; the last line may not have ended.
func (t *tail) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := append([]string(nil), t.full...)
	if line := strings.TrimSpace(terminal.Plain(string(t.line))); line != "" {
		lines = append(lines, line)
	}
	return lines
}

// Tail keeps the last lines of a console for an error, as printable text.
type Tail struct{ tail }

// ConsoleTail returns a Tail of the guest's console, which hands everything on to Console and to Watch.
func (o *Options) ConsoleTail() *Tail { return &Tail{tail{also: o.Console, watch: o.Watch}} }

// Lines are what is kept; the last one may not have ended.
func (t *Tail) Lines() []string { return t.lines() }

// Panic is the error of a guest whose kernel panicked; nil: it did not.
func (t *Tail) Panic() *GuestError { return t.panic() }

func (t *tail) panic() *GuestError {
	console := t.lines()
	for _, line := range console {
		if _, why, ok := strings.Cut(line, "Kernel panic - not syncing: "); ok {
			return &GuestError{What: "the guest's kernel panicked: " + why, Console: console, panicked: true}
		}
	}
	return nil
}

// ErrInterrupted says that the user ended the guest: with an interrupt before there was a command to get it, or
// with a second one. It is a context.Canceled too: there is nothing to report about what was requested.
var ErrInterrupted error = interruptedError{}

type interruptedError struct{}

func (interruptedError) Error() string        { return "interrupted" }
func (interruptedError) Is(target error) bool { return target == context.Canceled }

// errGone says that the connection to the agent ended, usually because the guest did.
var errGone = errors.New("the guest's agent went away")

// errSilent says that the guest has stopped answering.
var errSilent = errors.New("the guest stopped answering")

// errSlow and errLong are the causes of the two limits.
var (
	errSlow = errors.New("the guest did not come up in time")
	errLong = errors.New("the command ran too long")
)
