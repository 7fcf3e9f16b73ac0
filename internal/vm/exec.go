package vm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kimg/kimg/internal/qemu"
)

// Exec boots the guest quietly, runs argv in it as root in /root with the
// options' streams, ends the guest and returns the command's exit status.
//
// A kernel that panics, a guest that hangs or does not come up in time, and a
// QEMU that dies are a *GuestError, which carries the console's last lines.
func Exec(ctx context.Context, o Options, argv []string) (status int, err error) {
	config, err := o.read()
	if err != nil {
		return 0, err
	}
	if err := config.agent(); err != nil {
		return 0, err
	}
	site, err := o.open(ctx, config)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, site.Close(ctx)) }()
	devices := append(o.devices(config, site, Terminal{}), qemu.Serial{})
	devices = append(devices, o.ports(site, commandPorts...)...)
	m, err := boot(ctx, site, wiring{console: o.Console, keys: o.Keys}, devices...)
	if err != nil {
		return 0, err
	}
	defer m.quit()
	status, err = m.runCommand(ctx, &o, argv)
	return status, m.settle(ctx, &o, err)
}

// runCommand waits for the guest's agent, has it run argv, and where the guest's
// writes are kept shuts the guest down.
func (m *machine) runCommand(ctx context.Context, o *Options, argv []string) (int, error) {
	limits := o.limits(m.site.Accel)
	alive, stop := m.whileUp(ctx)
	defer stop()
	up, cancel := context.WithTimeoutCause(alive, limits.boot, errSlow)
	defer cancel()
	agent, ports, err := m.streams(up)
	if err != nil {
		return 0, m.explain(ctx, err, limits)
	}
	defer agent.close()
	for _, p := range ports {
		defer p.Close()
	}
	if err := agent.awaitReady(up, o.Interrupt); err != nil {
		return 0, m.explain(ctx, err, limits)
	}
	if o.RunLimit > 0 {
		var stop context.CancelFunc
		alive, stop = context.WithTimeoutCause(alive, o.RunLimit, errLong)
		defer stop()
	}
	status, err := agent.run(alive, command{script: Script(argv), stdin: o.Stdin, stdout: o.Stdout, stderr: o.Stderr,
		interrupt: o.Interrupt, silence: limits.silence}, ports[0], ports[1], ports[2])
	if err != nil {
		told := m.explain(ctx, err, limits)
		if errors.Is(err, errLong) {
			told = m.hung(fmt.Sprintf("the command did not end in %v", o.RunLimit))
		}
		m.part(ctx, o, agent.control, err)
		return 0, told
	}
	if o.keeps() {
		return status, m.powerOff(ctx, agent.control, limits.powerOff)
	}
	return status, nil
}

// errSlow and errLong are the causes of the two limits.
var (
	errSlow = errors.New("the guest did not come up in time")
	errLong = errors.New("the command ran too long")
)

// explain turns what a wait for the guest ended with into what the person is told.
func (m *machine) explain(ctx context.Context, err error, l limits) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, errSlow):
		return m.hung(fmt.Sprintf("the guest did not come up in %v", l.boot))
	case errors.Is(err, errSilent):
		return m.hung(fmt.Sprintf("the guest hung: it has not answered for %v", l.silence))
	case errors.Is(err, errGone) && m.waitEnd(ctx, 5*time.Second):
		return m.endError(ctx)
	case errors.Is(err, errGone):
		return m.hung(errGone.Error())
	}
	return err
}
