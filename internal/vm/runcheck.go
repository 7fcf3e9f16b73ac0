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
	switch {
	case err == nil || errors.As(err, &unknown) || errors.As(err, &guest):
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
