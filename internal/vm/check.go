package vm

import (
	"errors"
	"fmt"
	"time"

	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/gdb"
)

// Check says what must happen in a guest.
type Check struct {
	Break   string        // what must be reached, as gdb.CheckBreak has it; empty: there is no gdb
	During  bool          // it must be reached while the command runs, and not during the boot
	By      string        // the name of the process that must reach it; empty: any
	Print   []string      // expressions that gdb evaluates where the guest stopped
	Command []string      // run in the guest; nil: none
	Limit   time.Duration // from start to end; 0: 5 minutes, without KVM 20
}

// Result is what a check saw. With an error it is as far as the check came.
type Result struct {
	Hit       bool
	Frames    []gdb.Frame // where the guest stopped, the innermost first
	Task      string      // the process that did, as "cat (pid 312)"; empty where the kernel's scripts do not say
	Backtrace []string    // gdb's, a line for each frame
	Values    []gdb.Value // of the expressions
	Ran       bool        // the command was run to its end
	Status    int         // its exit status
	Log       string      // gdb's commands and answers
	Console   []string    // the last lines of the serial console
}

// ready is an error where this build cannot do what the check needs.
func (c *Check) ready(o *Options) (Config, error) {
	if c.Break != "" {
		if err := gdb.CheckBreak(c.Break); err != nil {
			return nil, fmt.Errorf("break at %w", err)
		}
	}
	if c.During && (c.Break == "" || c.Command == nil) {
		return nil, errors.New("check a breakpoint while a command runs: want both of them")
	}
	for _, expr := range c.Print {
		if err := gdb.CheckExpression(expr); err != nil {
			return nil, fmt.Errorf("print %w", err)
		}
	}
	config, err := o.read(needs{agent: c.Command != nil, files: c.files(false)})
	if err == nil && c.By != "" {
		err = config.need("tell gdb which process runs", "GDB_SCRIPTS")
	}
	return config, err
}

// files are the artifacts that the check must have besides what every guest needs; with
// all also those that it uses where they are there.
func (c *Check) files(all bool) []string {
	switch {
	case c.Break == "":
		return nil
	case all:
		return []string{artifact.Vmlinux, artifact.GDBLoader, artifact.GDBScripts}
	}
	return []string{artifact.Vmlinux}
}

type checking struct {
	c       Check
	kernel  *gdb.Symbols
	entry   uint64 // where the guest runs to before gdb attaches; 0: it stays halted
	scripts bool   // gdb has the kernel's own
	first   int    // the process ID of the command's shell; those of its children are higher
	vm      *instance
	result  *Result
	missing string // what has not been seen yet, for a check that runs out of time
}
