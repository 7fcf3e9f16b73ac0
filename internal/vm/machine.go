package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/terminal"
)

// machine is a guest that runs.
type machine struct {
	site    *Site
	console *tail
	said    *tail // what QEMU itself said
	done    chan struct{}
	err     error         // QEMU's end; read it after done
	clean   bool          // the guest was seen to shut down
	keyed   chan struct{} // closed once the guest has taken its keys
	kill    context.CancelFunc
}

// names of the sockets that are not ports.
const (
	qmpSocket = "qmp"
	gdbSocket = "gdb"
)

// how a machine is connected to the person.
type wiring struct {
	stdin   io.Reader // to the serial console; nil: none
	mute    func()    // ends a Read of stdin that waits; called at QEMU's end; nil: none would
	console io.Writer // what the serial console says; nil: only kept for an error
	keys    *Keys     // for the guest's sshd, where there is a way to it
}

// boot starts QEMU with the devices.
func boot(ctx context.Context, site *Site, w wiring, devices ...qemu.Device) (*machine, error) {
	for _, d := range devices {
		if k, ok := d.(qemu.Kernel); ok && len(k.Append) > maxCmdline {
			return nil, fmt.Errorf("boot: the kernel's command line has %d bytes, and the kernel takes %d: use fewer shares, shorter places, or less --append",
				len(k.Append), maxCmdline)
		}
	}
	m := &machine{site: site, console: &tail{also: w.console}, said: &tail{}, done: make(chan struct{}), keyed: make(chan struct{})}
	running, kill := context.WithCancel(ctx)
	m.kill = kill
	argv := qemu.Argv(arch.Default, append([]qemu.Device{qemu.Base{Machine: arch.Default.Machine}, site.Accel, qemu.RNG{}, qemu.QMP{Socket: site.Socket(qmpSocket)}}, devices...)...)
	if w.mute != nil {
		context.AfterFunc(running, w.mute)
	}
	wait, err := site.run.start(running, program{Args: argv, Stdin: w.stdin, Stdout: m.console, Stderr: m.said})
	if err != nil {
		m.kill()
		return nil, err
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		// What it says of the end of QEMU is told with that.
		_ = site.link.serve(running, site)
	}()
	keyed := make(chan struct{})
	go func() {
		defer close(keyed)
		if site.link.door != nil {
			m.giveKeys(running, w.keys)
		}
	}()
	go func() {
		defer close(m.done)
		m.err = wait()
		m.kill()
		<-served
		<-keyed
	}()
	return m, nil
}

// connect connects to one of the machine's ports.
func (m *machine) connect(ctx context.Context, name string) (*net.UnixConn, error) {
	ctx, cancel := m.whileUp(ctx)
	defer cancel()
	conn, err := m.site.dial(ctx, name)
	if err != nil && m.ended() {
		return nil, m.endError(ctx)
	}
	return conn, err
}

// whileUp is ctx, ended with the machine too: then errGone is its cause.
func (m *machine) whileUp(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-m.done:
			cancel(errGone)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

func (m *machine) ended() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

// endError tells why QEMU ended when it should not have.
func (m *machine) endError(ctx context.Context) error {
	<-m.done
	if ctx.Err() != nil && context.Cause(ctx) != context.Canceled {
		return context.Cause(ctx)
	}
	console := m.console.lines()
	for _, line := range console {
		if _, why, ok := strings.Cut(line, "Kernel panic - not syncing: "); ok {
			return &GuestError{What: "the guest's kernel panicked: " + why, Console: console, panicked: true}
		}
	}
	if m.err == nil {
		return &GuestError{What: "the guest ended by itself", Console: console}
	}
	if wasKilled(m.err) {
		return &GuestError{What: "QEMU was killed: by somebody, or by the system for want of memory", Console: console, Err: m.err}
	}
	what := fmt.Sprintf("QEMU ended: %v", m.err)
	if said := m.said.lines(); len(said) > 0 {
		what += ": " + strings.TrimPrefix(said[len(said)-1], arch.Default.QEMU+": ")
	}
	return &GuestError{What: what, Console: console, Err: m.err}
}

// hung tells of a guest that did not do in time what it should.
func (m *machine) hung(what string) error {
	return &GuestError{What: what, Console: m.console.lines()}
}

// quit ends QEMU at once, and with it what the guest has not written out.
func (m *machine) quit() {
	m.kill()
	<-m.done
}

// powerOff shuts the guest down cleanly within limit. The agent is asked, on
// control, and the power button pressed: a guest heeds the one or the other.
func (m *machine) powerOff(ctx context.Context, control io.Writer, limit time.Duration) error {
	if m.ended() {
		return nil
	}
	_, err := io.WriteString(control, "poweroff\n")
	_, noButton := m.order(ctx, "system_powerdown", nil)
	err = errors.Join(err, noButton)
	if m.waitEnd(ctx, limit) {
		m.clean = m.err == nil // else QEMU was killed meanwhile, or let go of
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(m.hung(fmt.Sprintf("the guest did not shut down in %v", limit)), err)
}

// hurry is how long a guest may take to shut down that the person has had enough of.
const hurry = 10 * time.Second

// part shuts the guest down that err has left running, where its writes are kept and it
// can be asked. A Ctrl-C ends the waiting. What does not come of it, the disk's check
// tells.
func (m *machine) part(ctx context.Context, o *Options, control io.Writer, err error) {
	limit := o.limits(m.site.Accel).powerOff
	switch {
	case !o.keeps():
		return
	case errors.Is(err, ErrInterrupted):
		limit = hurry
	case !errors.Is(err, errLong):
		return
	}
	_ = interruptible(ctx, o, func(ctx context.Context) error { return m.powerOff(ctx, control, limit) })
}

// settle ends the machine, in whatever way a run of it ended, and has the disk checked
// that the guest's writes are kept on. It returns err with what came of that.
func (m *machine) settle(ctx context.Context, o *Options, err error) error {
	m.quit()
	if !o.keeps() {
		return err
	}
	limit := fsckLimit
	if ctx.Err() != nil || errors.Is(err, ErrInterrupted) {
		limit = hurriedFsck
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	if !m.clean { // e2fsck must not meet a QEMU that still writes
		if bad := m.site.run.end(ctx); bad != nil {
			return errors.Join(err, fmt.Errorf("check %s: %w", o.disk(), bad))
		}
	}
	return errors.Join(err, o.checkDisk(ctx, m.site, m.clean))
}

func (m *machine) waitEnd(ctx context.Context, limit time.Duration) bool {
	select {
	case <-m.done:
		return true
	case <-time.After(limit):
	case <-ctx.Done():
	}
	return m.ended()
}

// order runs a QMP command and returns QEMU's answer, or nothing where QEMU has ended.
func (m *machine) order(ctx context.Context, command string, arguments any) (json.RawMessage, error) {
	alive, stop := m.whileUp(ctx)
	defer stop()
	up, cancel := context.WithTimeoutCause(alive, qemu.StartLimit, errors.New("QEMU did not start to listen"))
	defer cancel()
	conn, err := m.site.dial(up, qmpSocket)
	var answer json.RawMessage
	if err == nil {
		answer, err = qemu.Execute(alive, conn, command, arguments)
	}
	switch {
	case err == nil || m.ended():
		return answer, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	return nil, err
}

// GuestError says that a guest, or the QEMU under it, ended or stopped against
// the plan. Console is the last of what its serial console said.
type GuestError struct {
	What    string
	Console []string
	Err     error // QEMU's, or nil

	panicked bool
}

func (e *GuestError) Error() string { return e.What }

func (e *GuestError) Unwrap() error { return e.Err }

// tailLines is how much of a console is kept for an error: a panic with its
// registers and its stack.
const tailLines = 60

// tailLine bounds a line of it, in bytes.
const tailLine = 512

// tail keeps the last lines of what is written to it, as printable text.
type tail struct {
	also io.Writer // gets every byte too; may be nil

	mu   sync.Mutex
	full []string
	line []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	for _, b := range p {
		if b == '\n' || len(t.line) >= tailLine {
			t.push()
		}
		if b >= ' ' || b == '\t' || b == '\x1b' || b == '\a' { // what control sequences are made of
			t.line = append(t.line, b)
		}
	}
	t.mu.Unlock()
	if t.also != nil {
		return t.also.Write(p)
	}
	return len(p), nil
}

func (t *tail) push() {
	if line := strings.TrimRight(terminal.Plain(string(t.line)), " \t"); line != "" {
		if len(t.full) == tailLines {
			t.full = append(t.full[:0], t.full[1:]...)
		}
		t.full = append(t.full, line)
	}
	t.line = t.line[:0]
}

// lines returns what is kept; the last line may not have ended.
func (t *tail) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := append([]string(nil), t.full...)
	if line := strings.TrimSpace(terminal.Plain(string(t.line))); line != "" {
		lines = append(lines, line)
	}
	return lines
}

// portsOf makes the ports device.
func portsOf(site *Site, names ...string) qemu.Ports {
	return qemu.Ports{Names: names, Socket: site.Socket}
}
