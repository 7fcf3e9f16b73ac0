package checks

import (
	"cmp"
	"fmt"
	"io"
	"sync"
)

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
	Err     error    // what kept the check from its end
	Guest   bool     // Err is the guest's: it panicked, hung, or did not reach the breakpoint
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
