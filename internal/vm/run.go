package vm

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/moby/term"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/guest"
	"github.com/kimg/kimg/internal/qemu"
)

// Run boots the guest with its serial console on the options' Stdin and Stdout.
//
// On a terminal that is raw, follows the window's size, and Ctrl-a x ends the
// guest at once, as QEMU has it: where writes are kept that is pulling the plug.
// The end of the login shell ends the guest too, with a clean shutdown where
// writes are kept, and its status is returned. Input that is no terminal is held
// until the shell is there to read it, and its end is the shell's: so
// `echo uname -r | kimg run` works. A kernel without VIRTIO_CONSOLE cannot tell of
// its shell: then agetty logs in again, the guest ends by Ctrl-a x or by poweroff,
// and input is passed on as it comes.
func Run(ctx context.Context, o Options) (status int, err error) {
	config, err := o.read()
	if err != nil {
		return 0, err
	}
	site, err := o.open(ctx, config)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, site.Close(ctx)) }()
	screen := screenOf(o.Stdin)
	devices := append(o.devices(config, site, screen.terminal(o.Term)), qemu.Serial{Monitor: true})
	told := config.agent() == nil
	if told {
		devices = append(devices, o.ports(site, guest.Control, guest.Login)...)
	}
	w := wiring{stdin: o.Stdin, console: o.Stdout, keys: o.Keys}
	var input *heldInput
	if told && !screen.is && o.Stdin != nil {
		input = &heldInput{from: o.Stdin, open: make(chan struct{}), closed: make(chan struct{})}
		w.stdin, w.mute = input, func() { close(input.closed) }
	}
	restore, err := screen.raw()
	if err != nil {
		return 0, err
	}
	defer restore()
	m, err := boot(ctx, site, w, devices...)
	if err != nil {
		return 0, err
	}
	defer m.quit()
	if !told {
		<-m.done
		err = m.sessionEnd(ctx)
	} else {
		status, err = m.session(ctx, &o, screen, input)
	}
	restore()
	return status, m.settle(ctx, &o, err)
}

// session lasts from the boot to the end of the login shell, or of the guest.
func (m *machine) session(ctx context.Context, o *Options, screen screen, input *heldInput) (int, error) {
	alive, stop := m.whileUp(ctx)
	defer stop()
	control, err := m.connect(alive, guest.Control)
	if err != nil {
		return 0, m.sessionEnd(ctx)
	}
	agent := newAgent(control)
	defer agent.close()
	login, err := m.connect(alive, guest.Login)
	if err != nil {
		return 0, m.sessionEnd(ctx)
	}
	defer login.Close()
	shell := make(chan string)
	go func() {
		for lines := bufio.NewScanner(login); lines.Scan(); {
			select {
			case shell <- lines.Text():
			case <-alive.Done():
				return
			}
		}
	}()
	resized := make(chan os.Signal, 1)
	if screen.is {
		signal.Notify(resized, syscall.SIGWINCH)
		defer signal.Stop(resized)
	}
	for {
		select {
		case line := <-shell:
			if line == "login" && input != nil {
				input.release()
			}
			if status, ok := strings.CutPrefix(line, "logout "); ok {
				n, err := strconv.ParseUint(status, 10, 8)
				if err != nil {
					continue // not the shell that /etc/profile.d set up
				}
				if o.keeps() {
					return int(n), m.powerOff(ctx, control, o.limits(m.site.Accel).powerOff)
				}
				return int(n), nil
			}
		case <-resized:
			if size := screen.terminal(""); size.Rows > 0 {
				agent.say("winsize %d %d", size.Rows, size.Cols) // a guest that is gone ends the session below
			}
		case _, ok := <-agent.lines: // "ready" is no news to a person who sees the console
			if !ok {
				agent.lines = nil
			}
		case <-alive.Done():
			return 0, m.sessionEnd(ctx)
		}
	}
}

// sessionEnd tells whether a guest that the person had in hand ended well: by
// poweroff, or by Ctrl-a x.
func (m *machine) sessionEnd(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err := m.endError(ctx)
	var guest *GuestError
	if errors.As(err, &guest) && guest.Err == nil && !guest.panicked {
		return nil
	}
	return err
}

// screen is the person's terminal, or what is there instead.
type screen struct {
	fd uintptr
	is bool
}

func screenOf(r io.Reader) screen {
	fd, is := term.GetFdInfo(r)
	return screen{fd: fd, is: is}
}

// terminal describes the terminal for the guest; zero when there is none.
func (s screen) terminal(name string) Terminal {
	if !s.is {
		return Terminal{}
	}
	t := Terminal{Term: name}
	if size, err := term.GetWinsize(s.fd); err == nil { // some terminals have no size
		t.Rows, t.Cols = int(size.Height), int(size.Width)
	}
	return t
}

// sizes tells of the terminal's size, now and whenever it changes, until stop.
func (s screen) sizes() (sizes <-chan container.Winsize, stop func()) {
	changed, tell, done := make(chan os.Signal, 1), make(chan container.Winsize), make(chan struct{})
	signal.Notify(changed, syscall.SIGWINCH)
	go func() {
		for {
			if t := s.terminal(""); t.Rows > 0 {
				select {
				case tell <- container.Winsize{Rows: uint(t.Rows), Cols: uint(t.Cols)}:
				case <-done:
					return
				}
			}
			select {
			case <-changed:
			case <-done:
				return
			}
		}
	}()
	return tell, func() {
		signal.Stop(changed)
		close(done)
	}
}

// raw has every key go to the guest; restore undoes it, and may be called again.
func (s screen) raw() (restore func(), err error) {
	if !s.is {
		return func() {}, nil
	}
	state, err := term.SetRawTerminal(s.fd)
	if err != nil {
		return nil, err
	}
	return func() { term.RestoreTerminal(s.fd, state) }, nil
}

// heldInput is input that is no terminal's. A shell that starts flushes what was
// typed before, so nothing is let through until it is there; nobody is there to end
// the session, so the end of the input does, in words: an end-of-file key typed
// ahead would be lost.
type heldInput struct {
	from   io.Reader
	open   chan struct{}
	closed chan struct{}
	opened bool
	ended  bool
}

func (h *heldInput) release() {
	if !h.opened {
		h.opened = true
		close(h.open)
	}
}

func (h *heldInput) Read(p []byte) (int, error) {
	if h.ended {
		<-h.closed
		return 0, io.EOF
	}
	select {
	case <-h.open:
	case <-h.closed:
		return 0, io.EOF
	}
	n, err := h.from.Read(p)
	if errors.Is(err, io.EOF) && n == 0 {
		h.ended = true
		return copy(p, "\nexit\n"), nil
	}
	return n, err
}
