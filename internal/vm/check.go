package vm

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/gdb"
	"github.com/kimg/kimg/internal/qemu"
)

// Check says what must happen in a guest.
type Check struct {
	Break   string        // a function, FILE:LINE, FILE:FUNCTION or *ADDRESS that must be reached; empty: there is no gdb
	During  bool          // it is looked for while the command runs, and not on the way there
	By      string        // the name of the process that must reach it, others pass; empty: any
	Print   []string      // expressions that gdb evaluates where the guest stopped
	Command []string      // run in the guest; nil: none
	Limit   time.Duration // from start to end; 0: 5 minutes, without qemu.KVM 20
}

// Result is what a check saw. It is returned with an error too, as far as it goes.
type Result struct {
	Hit       bool
	Frames    []gdb.Frame // where the guest stopped, the innermost first
	Task      string      // the process that did, as "cat (pid 312)"; empty where the kernel's scripts do not say
	Backtrace []string    // gdb's, a line for each frame
	Values    []gdb.Value // of the expressions
	Ran       bool        // the command was run to its end
	Status    int         // its exit status
	Log       string      // what gdb was told and said
	Console   []string    // the last lines of the serial console
}

// RunCheck boots the guest and looks whether the check's breakpoint is reached,
// by one of two ways. A breakpoint of the boot is set before the guest's first
// instruction; once it was reached the guest is let go, boots on, and runs the
// command. A breakpoint that is for the command (During) is set when the command
// is about to run, and must be reached before it ends; so nothing of the boot is
// taken for it. A check without a breakpoint runs its command, as Exec does.
//
// The error is nil only if the guest stopped there and the command, whatever its
// status, was run. A guest that did not do in time what it should, panicked, or
// lost its QEMU is a *GuestError; a gdb that died is a *gdb.EndedError.
func RunCheck(ctx context.Context, o Options, c Check) (result *Result, err error) {
	k := &checking{c: c, result: &Result{}}
	config, err := c.ready(&o)
	if err != nil {
		return k.result, err
	}
	if c.Break != "" {
		if k.kernel, err = gdb.ReadSymbols(filepath.Join(o.Dir, artifact.Vmlinux)); err != nil {
			return k.result, err
		}
	}
	k.scripts = config["GDB_SCRIPTS"] == "y"
	err = o.with(ctx, config, c.files(true), func(vm *instance) error {
		k.vm = vm
		if c.Break != "" {
			var stub qemu.GDBStub
			stub, k.entry = stubOf(k.kernel, vm.tools, []string{c.Break}, c.During)
			vm.machine.More = []qemu.Device{stub}
		}
		ports := o.agentPorts()
		if c.Command != nil {
			ports = commandPorts
		}
		if c.Limit > 0 {
			vm.limits.boot, vm.limits.check = c.Limit, c.Limit
		}
		if err := vm.boot(ctx, guestIO{console: o.Console, ports: ports}); err != nil {
			return err
		}
		if c.Command == nil {
			vm.listen(ctx, ports...)
		}
		defer func() { k.result.Console = vm.console.lines() }()
		return k.run(ctx)
	})
	return k.result, err
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

// files are what the check cannot do without besides what every guest needs, or
// what it takes where it is there.
func (c *Check) files(all bool) []string {
	switch {
	case c.Break == "":
		return nil
	case all:
		return []string{artifact.Vmlinux, artifact.GDBLoader, artifact.GDBScripts}
	}
	return []string{artifact.Vmlinux}
}

// errNoDebugInfo says that gdb would know addresses and nothing else.
var errNoDebugInfo = &MissingConfigError{For: "be debugged", Symbols: []string{"DEBUG_INFO"}}

// checking is a check under way.
type checking struct {
	c       Check
	kernel  *gdb.Symbols
	entry   uint64 // where the guest runs to before gdb attaches; 0: it stays halted
	scripts bool   // gdb has the kernel's own
	first   int    // the process id of the command's shell; those of its children are higher
	vm      *instance
	result  *Result
	missing string // what has not been seen yet, for a check that runs out of time
}

// errOver is the cause of a check's end by its limit.
var errOver = errors.New("the check's time is up")

// run lasts from the boot to the check's end.
func (k *checking) run(ctx context.Context) error {
	timed, cancel := context.WithTimeoutCause(ctx, k.vm.limits.check, errOver)
	defer cancel()
	alive, stop := k.vm.whileUp(timed)
	defer stop()
	var err error
	if k.c.During {
		err = k.during(alive)
	} else {
		if k.c.Break != "" {
			err = k.atBoot(alive)
		}
		if err == nil && k.c.Command != nil {
			err = k.command(alive)
		}
	}
	var unknown *gdb.NoBreakError
	var guest *GuestError
	switch {
	case err == nil || errors.As(err, &unknown) || errors.As(err, &guest):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case context.Cause(timed) == errOver: // whatever it was that this ended
		return k.vm.hung(fmt.Sprintf("%s in %v", k.missing, k.vm.limits.check))
	case k.vm.waitEnd(ctx, time.Second): // gdb and the agent only see that a connection has ended
		return k.vm.endError(ctx)
	}
	return k.vm.explain(ctx, err)
}
