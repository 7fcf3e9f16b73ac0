package vm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kimg/kimg/internal/guest"
	"golang.org/x/sync/errgroup"
)

// Exec boots the guest without showing its console, runs argv in it as root in /root with the
// options' streams, ends the guest and returns the command's exit status.
//
// A kernel that panics, a guest that hangs or does not come up in time, and a
// QEMU that dies are a *GuestError, which carries the console's last lines; a QEMU that does not start the guest is a
// *StartError.
func Exec(ctx context.Context, o Options, argv []string) (status int, err error) {
	config, err := o.read(wants{agent: true})
	if err != nil {
		return 0, err
	}
	o.use = ForCommand
	err = o.with(ctx, config, nil, func(vm *instance) error {
		err := vm.boot(ctx, guestIO{console: o.Console, ports: commandPorts})
		if err == nil {
			status, err = vm.runCommand(ctx, argv)
		}
		return err
	})
	return status, err
}

// runCommand has the guest's agent run argv, and where the guest's writes are kept shuts the guest down.
func (vm *instance) runCommand(ctx context.Context, argv []string) (int, error) {
	alive, stop := vm.whileUp(ctx)
	defer stop()
	agent, ports, err := vm.agent(alive)
	if err != nil {
		return 0, vm.explain(ctx, err)
	}
	defer closePorts(agent, ports)
	if vm.o.RunLimit > 0 {
		var stop context.CancelFunc
		alive, stop = context.WithTimeoutCause(alive, vm.o.RunLimit, errLong)
		defer stop()
	}
	status, err := agent.run(alive, vm.command(argv), ports)
	if err != nil {
		explained := vm.explain(ctx, err)
		if errors.Is(err, errLong) {
			explained = vm.hung(fmt.Sprintf("the command did not end in %v", vm.o.RunLimit))
		}
		vm.part(ctx, agent.control, err)
		return 0, explained
	}
	if vm.o.keeps() {
		return status, vm.powerOff(ctx, agent.control, vm.limits.powerOff)
	}
	return status, nil
}

func (vm *instance) agent(ctx context.Context) (*agent, []port, error) {
	up, cancel := context.WithTimeoutCause(ctx, vm.limits.boot, errSlow)
	defer cancel()
	agent, ports, err := vm.streams(up)
	if err != nil {
		return nil, nil, err
	}
	if err := vm.ready(up, agent); err != nil {
		closePorts(agent, ports)
		return nil, nil, err
	}
	return agent, ports, nil
}

// streams are the ports of a command, in the order of commandPorts.
func (vm *instance) streams(ctx context.Context) (*agent, []port, error) {
	ports := make([]port, len(commandPorts))
	var g errgroup.Group
	for i, name := range commandPorts {
		g.Go(func() error {
			conn, err := vm.connect(ctx, name)
			if err == nil {
				ports[i] = conn
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		for _, p := range ports {
			if p != nil {
				p.Close()
			}
		}
		return nil, nil, err
	}
	return newAgent(ports[0]), ports[1:], nil
}

// commandPorts are the ports a command needs.
var commandPorts = []string{guest.Control, guest.Stdin, guest.Stdout, guest.Stderr}

func (vm *instance) command(argv []string) command {
	return command{script: Script(argv), stdin: vm.o.Stdin, stdout: vm.o.Stdout, stderr: vm.o.Stderr,
		interrupt: vm.o.Interrupt, silence: vm.limits.silence}
}

func closePorts(a *agent, ports []port) {
	a.close()
	for _, p := range ports {
		p.Close()
	}
}

// explain turns the error of a wait for the guest into the one for the user.
func (vm *instance) explain(ctx context.Context, err error) error {
	var stale *staleError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &stale): // whatever is in it
		return err
	case errors.Is(err, errSlow):
		return vm.hung(fmt.Sprintf("the guest did not come up in %v", vm.limits.boot))
	case errors.Is(err, errSilent):
		return vm.hung(fmt.Sprintf("the guest hung: it has not answered for %v", vm.limits.silence))
	case errors.Is(err, errGone) && vm.waitEnd(ctx, 5*time.Second):
		return vm.endError(ctx)
	case errors.Is(err, errGone):
		return vm.hung(errGone.Error())
	}
	return err
}
