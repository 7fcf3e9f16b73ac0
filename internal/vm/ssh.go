package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/kimg/kimg/internal/guest"
	"github.com/kimg/kimg/internal/qemu"
	"golang.org/x/crypto/ssh"
)

// Login is a session with a guest's sshd.
type Login struct {
	Command   []string // empty: root's shell
	Relay     bool     // the streams are the connection itself, of another client
	Connected func()   // called once the guest's sshd answers; may be nil
}

// errNoNetwork says that the guest cannot be reached.
var errNoNetwork = errors.New("log in to the guest: it has no network (--net none)")

// SSH boots the guest without showing its console, logs in to its sshd, and ends the guest
// with the session, whose status it returns. The options have Keys. During the session
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
	config, err := o.read(wants{agent: true})
	if err != nil {
		return 0, err
	}
	o.use = ForCommand
	err = o.with(ctx, config, nil, func(vm *instance) error {
		hub, err := newConsoleHub(vm.entry)
		if err != nil {
			return err
		}
		defer hub.close()
		to := guestIO{stdin: hub.input(), mute: hub.mute, console: hub, ports: []string{guest.Control}}
		if o.Console != nil {
			to.console = io.MultiWriter(hub, o.Console)
		}
		if err := vm.boot(ctx, to); err != nil {
			return err
		}
		status, err = vm.logIn(ctx, l)
		return err
	})
	return status, err
}

// logIn waits for the guest's agent and sshd, has the session, and shuts the guest down where writes are kept.
func (vm *instance) logIn(ctx context.Context, l Login) (int, error) {
	o, limits := vm.o, vm.limits
	alive, stop := vm.whileUp(ctx)
	defer stop()
	up, cancel := context.WithTimeoutCause(alive, limits.boot, errSlow)
	defer cancel()
	control, err := vm.connect(up, guest.Control)
	if err != nil {
		return 0, vm.explain(ctx, err)
	}
	agent := newAgent(control)
	defer agent.close()
	if err := vm.ready(up, agent); err != nil {
		return 0, vm.explain(ctx, err)
	}
	if err := o.interruptible(up, func(up context.Context) error {
		select {
		case <-vm.keyed:
			return nil
		case <-up.Done():
			return context.Cause(up)
		}
	}); err != nil {
		return 0, vm.explain(ctx, err)
	}
	if o.RunLimit > 0 {
		alive, stop = context.WithTimeoutCause(alive, o.RunLimit, errLong)
		defer stop()
	}
	watched, quit := context.WithCancelCause(alive)
	defer quit(nil)
	go func() { quit(agent.heartbeat(watched, limits.silence)) }()
	status, err := o.session(watched, vm.link.ssh.address, o.Keys, limits.boot, l)
	switch {
	case errors.Is(err, errLong), errors.Is(err, ErrInterrupted):
		explained := vm.explain(ctx, err)
		if errors.Is(err, errLong) {
			explained = vm.hung(fmt.Sprintf("the session did not end in %v", o.RunLimit))
		}
		vm.part(ctx, control, err)
		return 0, explained
	case errors.Is(err, errLost) && vm.waitEnd(ctx, 5*time.Second):
		err = vm.sessionEnd(ctx) // the user may have shut it down
	case errors.Is(err, errGone) && len(l.Command) == 0:
		err = vm.sessionEnd(ctx)
	}
	if err != nil {
		return 0, vm.explain(ctx, err)
	}
	if o.keeps() {
		return status, vm.powerOff(ctx, control, limits.powerOff)
	}
	return status, nil
}

// heartbeat pings the guest. It returns the reason when the guest does not answer, or nil at the end of ctx.
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
func (u *User) session(ctx context.Context, at Address, keys *Keys, limit time.Duration, l Login) (int, error) {
	up, cancel := context.WithTimeoutCause(ctx, limit, errSlow)
	defer cancel()
	connected := func() {
		if l.Connected != nil {
			l.Connected()
		}
	}
	if l.Relay {
		var conn *peekedConn
		if err := u.interruptible(up, func(up context.Context) (err error) {
			conn, err = dialSSHD(up, at)
			return err
		}); err != nil {
			return 0, err
		}
		defer conn.Close()
		connected()
		return 0, u.relay(ctx, conn)
	}
	var client *ssh.Client
	if err := u.interruptible(up, func(up context.Context) (err error) {
		client, err = logIn(up, at, keys)
		return err
	}); err != nil {
		return 0, err
	}
	defer client.Close()
	connected()
	status, err := u.runSSH(ctx, client, l.Command)
	if err != nil && ctx.Err() != nil {
		return 0, context.Cause(ctx) // err only follows from it
	}
	return status, err
}

// relay joins the user's streams with a connection, until it ends.
func (u *User) relay(ctx context.Context, conn *peekedConn) error {
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	go func() {
		if _, err := io.Copy(conn, u.Stdin); err == nil {
			_ = conn.CloseWrite() // the other direction reports its end
		}
	}()
	_, err := io.Copy(u.Stdout, conn)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// SSHTo logs in to a guest that runs. The guest's end is a *GuestError.
func SSHTo(ctx context.Context, g RunningGuest, keys *Keys, u User, l Login) (int, error) {
	alive, stop := g.whileRuns(ctx)
	defer stop()
	limit := u.limits(qemu.KVM).boot
	up, cancel := context.WithTimeoutCause(alive, limit, errSlow)
	defer cancel()
	err := u.interruptible(up, g.awaitKeys)
	var status int
	if err == nil {
		status, err = u.session(alive, *g.SSH, keys, limit, l)
	}
	if errors.Is(err, errLost) {
		select { // its kimg takes a moment to see the guest's end and to clean up
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
