package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/kimg/kimg/internal/guest"
	"github.com/kimg/kimg/internal/qemu"
)

// Login is a session with a guest's sshd.
type Login struct {
	Command   []string // empty: root's shell
	Relay     bool     // the streams are the connection itself, of another client
	Connected func()   // called once the guest's sshd answers; nil: nobody wants to know
}

// errNoNetwork says that a guest without a network was to be reached.
var errNoNetwork = errors.New("log in to the guest: it has no network (--net none)")

// SSH boots the guest quietly, logs in to its sshd, and ends the guest with the
// session, whose status it returns. The options have Keys. While the session lasts,
// others can log in too, and attach to the serial console.
//
// A guest that ends, hangs or whose sshd does not come up in time is a *GuestError.
func SSH(ctx context.Context, o Options, l Login) (status int, err error) {
	switch o.Network.Mode {
	case NoNet:
		return 0, errNoNetwork
	case "":
		o.Network.Mode = UserNet
	}
	config, err := o.read()
	if err == nil {
		err = config.agent()
	}
	if err != nil {
		return 0, err
	}
	site, err := o.open(ctx, config)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, site.Close(ctx)) }()
	hub, err := newConsoleHub(site)
	if err != nil {
		return 0, err
	}
	defer hub.close()
	var console io.Writer = hub
	if o.Console != nil {
		console = io.MultiWriter(hub, o.Console)
	}
	devices := append(o.devices(config, site, Terminal{}), qemu.Serial{})
	devices = append(devices, o.ports(site, guest.Control)...)
	m, err := boot(ctx, site, wiring{stdin: hub.input(), mute: hub.mute, console: console, keys: o.Keys}, devices...)
	if err != nil {
		return 0, err
	}
	defer m.quit()
	status, err = m.logIn(ctx, &o, l)
	return status, m.settle(ctx, &o, err)
}

// logIn waits for the guest's agent and its sshd, has the session, and where the
// guest's writes are kept shuts the guest down.
func (m *machine) logIn(ctx context.Context, o *Options, l Login) (int, error) {
	limits := o.limits(m.site.Accel)
	alive, stop := m.whileUp(ctx)
	defer stop()
	up, cancel := context.WithTimeoutCause(alive, limits.boot, errSlow)
	defer cancel()
	control, err := m.connect(up, guest.Control)
	if err != nil {
		return 0, m.explain(ctx, err, limits)
	}
	agent := newAgent(control)
	defer agent.close()
	if err := agent.awaitReady(up, o.Interrupt); err != nil {
		return 0, m.explain(ctx, err, limits)
	}
	if err := interruptible(up, o, func(up context.Context) error {
		select {
		case <-m.keyed:
			return nil
		case <-up.Done():
			return context.Cause(up)
		}
	}); err != nil {
		return 0, m.explain(ctx, err, limits)
	}
	if o.RunLimit > 0 {
		alive, stop = context.WithTimeoutCause(alive, o.RunLimit, errLong)
		defer stop()
	}
	watched, quit := context.WithCancelCause(alive)
	defer quit(nil)
	go func() { quit(agent.heartbeat(watched, limits.silence)) }()
	status, err := session(watched, m.site.link.door.address, limits.boot, o, l)
	switch {
	case errors.Is(err, errLong), errors.Is(err, ErrInterrupted):
		told := m.explain(ctx, err, limits)
		if errors.Is(err, errLong) {
			told = m.hung(fmt.Sprintf("the session did not end in %v", o.RunLimit))
		}
		m.part(ctx, o, control, err)
		return 0, told
	case errors.Is(err, errLost) && m.waitEnd(ctx, 5*time.Second):
		err = m.sessionEnd(ctx) // the person may have shut it down
	case errors.Is(err, errGone) && len(l.Command) == 0:
		err = m.sessionEnd(ctx)
	}
	if err != nil {
		return 0, m.explain(ctx, err, limits)
	}
	if o.keeps() {
		return status, m.powerOff(ctx, control, limits.powerOff)
	}
	return status, nil
}

// heartbeat asks the guest whether it is there. It returns when it is not, with the
// reason, or at the end of ctx.
func (a *agent) heartbeat(ctx context.Context, silence time.Duration) error {
	ping := time.NewTicker(min(5*time.Second, silence/4))
	defer ping.Stop()
	heard := time.Now()
	for {
		select {
		case _, ok := <-a.lines:
			if !ok {
				return a.gone()
			}
			heard = time.Now()
		case <-ping.C:
			if time.Since(heard) > silence {
				return errSilent
			}
			_ = a.say("ping") // a guest that is gone ends the lines
		case <-ctx.Done():
			return nil
		}
	}
}

// session is a login to the sshd at an address, which comes up within limit.
func session(ctx context.Context, at Address, limit time.Duration, o *Options, l Login) (int, error) {
	up, cancel := context.WithTimeoutCause(ctx, limit, errSlow)
	defer cancel()
	connected := func() {
		if l.Connected != nil {
			l.Connected()
		}
	}
	if l.Relay {
		var conn *peekedConn
		if err := interruptible(up, o, func(up context.Context) (err error) {
			conn, err = dialSSHD(up, at)
			return err
		}); err != nil {
			return 0, err
		}
		defer conn.Close()
		connected()
		return 0, relayStreams(ctx, conn, o)
	}
	var client *ssh.Client
	if err := interruptible(up, o, func(up context.Context) (err error) {
		client, err = logIn(up, at, o.Keys)
		return err
	}); err != nil {
		return 0, err
	}
	defer client.Close()
	connected()
	status, err := runSSH(ctx, client, o, l.Command)
	if err != nil && ctx.Err() != nil {
		return 0, context.Cause(ctx) // and what came of it
	}
	return status, err
}

// interruptible ends do with ErrInterrupted at the person's Ctrl-C.
func interruptible(ctx context.Context, o *Options, do func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		select {
		case <-o.Interrupt:
			cancel(ErrInterrupted)
		case <-ctx.Done():
		}
	}()
	err := do(ctx)
	cancel(nil)
	<-heard // later ones are another's
	return err
}

// relayStreams joins the options' streams with a connection, until it ends.
func relayStreams(ctx context.Context, conn *peekedConn, o *Options) error {
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	go func() {
		if _, err := io.Copy(conn, o.Stdin); err == nil {
			_ = conn.CloseWrite() // its end is told by the other direction
		}
	}()
	_, err := io.Copy(o.Stdout, conn)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// SSHTo logs in to a guest that runs. Of the options only the Keys, the streams,
// Term, Interrupt and the limits count. The guest's end is a *GuestError.
func SSHTo(ctx context.Context, g RunningGuest, o Options, l Login) (int, error) {
	alive, stop := g.whileRuns(ctx)
	defer stop()
	limit := o.limits(qemu.KVM).boot
	up, cancel := context.WithTimeoutCause(alive, limit, errSlow)
	defer cancel()
	err := interruptible(up, &o, g.awaitKeys)
	var status int
	if err == nil {
		status, err = session(alive, *g.SSH, limit, &o, l)
	}
	if errors.Is(err, errLost) {
		select { // its kimg takes a moment to see the guest's end, and to tidy up
		case <-alive.Done():
			err = context.Cause(alive)
		case <-time.After(5 * time.Second):
		}
	}
	switch {
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case errors.Is(err, errGone):
		return 0, &GuestError{What: fmt.Sprintf("guest %s has ended", g.Name)}
	case errors.Is(err, errSlow):
		return 0, &GuestError{What: fmt.Sprintf("the sshd of guest %s did not answer in %v", g.Name, limit)}
	case errors.Is(err, errLost):
		return 0, &GuestError{What: err.Error()}
	}
	return status, err
}
