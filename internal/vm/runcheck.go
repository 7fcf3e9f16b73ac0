package vm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/gdb"
	"github.com/kimg/kimg/internal/needs"
	"github.com/kimg/kimg/internal/qemu"
)

// RunCheck boots the guest and finds out whether the check's breakpoint is reached, in one of two ways. A
// breakpoint of the boot is set before the guest's first instruction; once it was reached the guest boots on and
// runs the command. A breakpoint for the command (During) is set when the command is about to run, and must be
// reached before it ends, so that nothing in the boot can reach it. A check without a breakpoint runs its command,
// as Exec does.
//
// The error is nil only if the guest stopped there and the command was run, whatever its status. A guest that was
// too slow, panicked, or lost its QEMU is a *GuestError; a gdb that died is a *gdb.EndedError.
func RunCheck(ctx context.Context, o Options, c Check) (result *Result, err error) {
	k := &checking{c: c, result: &Result{}}
	config, err := c.ready(&o)
	if err != nil {
		return k.result, err
	}
	if c.Break != "" {
		if k.kernel, err = symbols(o.Dir); err != nil {
			return k.result, err
		}
	}
	if c.Break == "" || c.During { // else it is about the boot
		o.use = ForCommand
	}
	k.scripts = config["GDB_SCRIPTS"] == "y"
	err = o.with(ctx, config, c.files(true), func(vm *instance) error {
		k.vm = vm
		if c.Break != "" {
			var stub qemu.GDBStub
			stub, k.entry = stubOf(k.kernel, vm.tools, []string{c.Break}, c.During)
			vm.machine.More = append(vm.machine.More, stub)
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

// errOver is the cause of a context that ended at the check's limit.
var errOver = errors.New("the check's time is up")

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
	var stale *staleError
	switch {
	case err == nil || errors.As(err, &stale) || errors.As(err, &unknown) || errors.As(err, &guest):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case context.Cause(timed) == errOver: // whatever this interrupted
		return k.vm.hung(fmt.Sprintf("%s in %v", k.missing, k.vm.limits.check))
	case k.vm.waitEnd(ctx, time.Second): // gdb and the agent only see that a connection has ended
		return k.vm.endError(ctx)
	}
	return k.vm.explain(ctx, err)
}

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
	config, err := o.read(wants{agent: c.Command != nil, debug: c.Break != "", files: c.files(false)})
	if err == nil && c.By != "" {
		err = config.need(needs.Process)
	}
	return config, err
}

// files are the artifacts that the check must have besides; with all also those that it uses if there.
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

// atBoot lets the halted guest run to the check's breakpoint and looks where it stopped.
func (k *checking) atBoot(ctx context.Context) error {
	k.missing = "the guest did not reach " + k.place()
	came := make(chan error, 1)
	go func() { came <- k.vm.awaitGDB(ctx, k.entry) }()
	d, err := startGDB(ctx, k.vm.tools)
	if err != nil {
		return err
	}
	defer func() { k.result.Log = d.Transcript() }()
	// Before there is a guest: gdb answers from the symbols.
	place, root, err := k.find(ctx, d)
	if err != nil {
		return err
	}
	if err := <-came; err != nil {
		return err
	}
	if err := d.Attach(ctx, k.vm.tools.Socket(gdbSocket)); err != nil {
		return err
	}
	// A software breakpoint is an instruction in memory, where the kernel is yet to be unpacked. Under KVM there are
	// few of the other kind: for more places it is set afterwards.
	hardware := k.hardware(place)
	if !hardware {
		if err := d.RunTo(ctx, gdb.StartKernel, true); err != nil {
			return err
		}
	}
	b, err := d.SetBreak(ctx, k.c.Break, hardware)
	if err != nil {
		return fmt.Errorf("break at %s: %w", k.c.Break, err)
	}
	if err := d.Proceed(ctx); err != nil {
		return err
	}
	if _, err := k.stop(ctx, d, b, nil); err != nil {
		return err
	}
	return k.look(ctx, d, b, root)
}

// stop waits until the guest stops at the breakpoint, in By's process; false: the command ended before.
func (k *checking) stop(ctx context.Context, d *gdb.Debugger, b gdb.Breakpoint, ended <-chan struct{}) (bool, error) {
	for {
		stop, err := d.AwaitStop(ctx, ended)
		if err != nil || stop == nil {
			return false, err
		}
		if err := b.HitBy(stop); err != nil {
			return false, fmt.Errorf("run to %s: %w", k.c.Break, err)
		}
		if k.c.By == "" {
			return true, nil
		}
		// The agent has processes called cat of its own; they are older than the command.
		if is, err := d.IsTask(ctx, k.c.By, k.first); is || err != nil {
			return is, err
		}
		if err := d.Proceed(ctx); err != nil {
			return false, err
		}
	}
}

// place is where the guest must stop.
func (k *checking) place() string {
	if k.c.By == "" {
		return k.c.Break
	}
	return k.c.Break + " by " + k.c.By
}

// find finds the check's breakpoint, and where the kernel's source was when it was compiled.
func (k *checking) find(ctx context.Context, d *gdb.Debugger) (b gdb.Breakpoint, root string, err error) {
	if b, err = d.Find(ctx, k.kernel, k.c.Break); err != nil {
		return b, "", err
	}
	return b, d.SourceRoot(ctx), nil
}

// hardware says whether the processor has enough breakpoints for the place.
func (k *checking) hardware(b gdb.Breakpoint) bool {
	return k.vm.tools.Accel == qemu.TCG || b.Locations <= k.vm.machine.Arch.HardwareBreaks
}

// look records where the guest has stopped, evaluates the check's expressions there, and lets the guest go.
func (k *checking) look(ctx context.Context, d *gdb.Debugger, b gdb.Breakpoint, root string) (err error) {
	k.missing = "gdb did not report on the stop in " + k.c.Break
	if err := d.DeleteBreak(ctx, b); err != nil {
		return err
	}
	r := k.result
	r.Hit = true
	if r.Frames, err = d.Frames(ctx, root); err != nil {
		return err
	}
	if r.Backtrace, err = d.Backtrace(ctx, root); err != nil {
		return err
	}
	if k.scripts {
		if r.Task, err = d.Task(ctx); err != nil {
			return err
		}
	}
	for _, expr := range k.c.Print {
		v, err := d.Evaluate(ctx, expr)
		if err != nil {
			return err
		}
		r.Values = append(r.Values, v)
	}
	return d.Release(ctx)
}
