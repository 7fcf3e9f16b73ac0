package vm

import (
	"context"
	"fmt"

	"github.com/kimg/kimg/internal/gdb"
	"github.com/kimg/kimg/internal/qemu"
)

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
	// A software breakpoint is an instruction in memory, where the kernel has yet to
	// be unpacked. Under KVM there are few of the other kind; for more places, as an
	// inlined function has, it is set once the kernel is unpacked.
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

// stop waits until the guest stops at the breakpoint. Where that is for one process alone,
// it lets all others go on. It returns false where the command ended before.
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
	return k.vm.tools.Accel != qemu.KVM || b.Locations <= k.vm.machine.Arch.HardwareBreaks
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
