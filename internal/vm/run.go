package vm

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/kimg/kimg/internal/guest"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/terminal"
)

// Run boots the guest with its serial console on the options' Stdin and Stdout. Where it goes on from a kept one, the
// console's last line is shown: the prompt.
//
// A terminal is raw meanwhile, and the guest follows its size; Ctrl-a x ends the guest at once, as in QEMU: where
// writes are kept that is like pulling the plug. The end of the login shell ends the guest too, with a clean
// shutdown where writes are kept, and its status is returned. Input that is no terminal is held back until the
// shell reads it, and its end ends the shell: so `echo uname -r | kimg run` works. A kernel without VIRTIO_CONSOLE
// cannot report on its shell: then agetty logs in again, the guest ends by Ctrl-a x or by poweroff, and input is
// passed on as it comes.
func Run(ctx context.Context, o Options) (status int, err error) {
	config, err := o.read(wants{})
	if err != nil {
		return 0, err
	}
	screen := terminal.Of(o.Stdin)
	o.use, o.terminal = ForConsole, shown(screen, o.Term)
	err = o.with(ctx, config, nil, func(vm *instance) error {
		vm.machine.Serial.Monitor = true
		to := guestIO{stdin: o.Stdin, console: o.Stdout}
		reports := config.agent() == nil // the guest reports on its login shell
		if reports {
			to.ports = []string{guest.Control, guest.Login}
		}
		var input *heldInput
		// A kept guest that cannot be used must have taken none of the keys.
		if reports && o.Stdin != nil && (!screen.Is() || vm.keeping.warm()) {
			input = &heldInput{from: o.Stdin, open: make(chan struct{}), closed: make(chan struct{})}
			to.stdin, to.mute = input, func() { close(input.closed) }
		}
		restore, err := screen.Raw()
		if err != nil {
			return err
		}
		defer restore()
		if err := vm.boot(ctx, to); err != nil {
			return err
		}
		if !reports {
			<-vm.done
			return vm.sessionEnd(ctx)
		}
		status, err = vm.session(ctx, screen, input)
		return err
	})
	return status, err
}

// session lasts from the boot to the end of the login shell, or of the guest.
func (vm *instance) session(ctx context.Context, screen terminal.Terminal, input *heldInput) (int, error) {
	alive, stop := vm.whileUp(ctx)
	defer stop()
	control, err := vm.connect(alive, guest.Control)
	if err != nil {
		return 0, vm.sessionEnd(ctx)
	}
	agent := newAgent(control)
	defer agent.close()
	if vm.keeping.warm() {
		up, cancel := context.WithTimeoutCause(alive, vm.limits.boot, errSlow)
		defer cancel()
		if err := vm.ready(up, agent); err != nil {
			return 0, vm.explain(ctx, err)
		}
		if input != nil {
			input.release() // its shell has logged in
		}
	}
	login, err := vm.connect(alive, guest.Login)
	if err != nil {
		return 0, vm.sessionEnd(ctx)
	}
	defer login.Close()
	shell := make(chan string)
	go func() {
		for line, err := range reading.Lines(login, maxLine) {
			if err != nil {
				continue // the shell wrote no such line
			}
			select {
			case shell <- line:
			case <-alive.Done():
				return
			}
		}
	}()
	go screen.Follow(alive, func(size terminal.Size) {
		_ = agent.say("winsize %d %d", size.Rows, size.Cols) // a guest that is gone ends the session below
	})
	rests := false
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
				if vm.o.keeps() {
					return int(n), vm.powerOff(ctx, control, vm.limits.powerOff)
				}
				return int(n), nil
			}
		case line, ok := <-agent.lines:
			if !ok {
				agent.lines = nil
			}
			rests = rests || line == restsLine
			if strings.HasPrefix(line, "ready ") { // which is no news to a user who sees the console
				vm.up(rests)
			}
		case <-alive.Done():
			return 0, vm.sessionEnd(ctx)
		}
	}
}

// Typed is what the user types, for the serial console of a guest that is recorded.
type Typed struct {
	Terminal // the user's; zero: the input is none
	restore  func()
	held     *heldInput // of input that is no terminal
	keys     io.Reader
	ended    chan struct{}
}

// Type makes a terminal raw. Input that is none is held back until Release; its end ends the shell. The caller calls
// Close, after which what is typed is others' again.
func (u *User) Type() (*Typed, error) {
	screen := terminal.Of(u.Stdin)
	restore, err := screen.Raw()
	if err != nil {
		return nil, err
	}
	t := &Typed{Terminal: shown(screen, u.Term), restore: restore, ended: make(chan struct{})}
	t.held = &heldInput{from: u.Stdin, open: make(chan struct{}), closed: t.ended}
	switch t.keys = t.held; {
	case screen.Is():
		t.keys = &escaped{from: screen.Until(t.ended), leave: 'x'}
	case u.Stdin == nil:
		t.held.from = strings.NewReader("")
	}
	return t, nil
}

// Copy passes on what is typed. It ends with ErrLeft at a Ctrl-a x, and with an error of the writer's.
func (t *Typed) Copy(to io.Writer) error {
	_, err := io.Copy(to, t.keys)
	if errors.Is(err, errDetached) {
		return ErrLeft
	}
	return err
}

// ErrLeft says that the user typed what ends the guest.
var ErrLeft = errors.New("left by Ctrl-a x")

// Release says that the shell reads.
func (t *Typed) Release() { t.held.release() }

// Close leaves the terminal as it was, and ends Copy.
func (t *Typed) Close() {
	close(t.ended)
	t.restore()
}

// shown describes the terminal for the guest; zero when there is none.
func shown(t terminal.Terminal, name string) Terminal {
	if !t.Is() {
		return Terminal{}
	}
	return Terminal{Size: t.Size(), Term: name}
}

// heldInput is input that is no terminal, held until the shell runs, which drops what was typed before. Its end is a
// command: an end-of-file key that is typed ahead would be lost.
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
