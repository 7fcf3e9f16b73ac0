// Package terminal handles the terminal that a user sits at: whether a stream is one ([Of]), its size, raw mode, a
// password; and it makes what others wrote safe to show on one ([Strip], [Plain]).
package terminal

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"unicode"

	"github.com/moby/term"
	"golang.org/x/sys/unix"
)

// Terminal is a stream's terminal, or none.
type Terminal struct {
	fd uintptr
	is bool
}

// Size is a terminal's.
type Size struct{ Rows, Cols int }

// Of returns the terminal that a stream is, if it is one.
func Of(stream any) Terminal {
	if f, ok := stream.(*os.File); !ok || f == nil {
		return Terminal{}
	}
	fd, is := term.GetFdInfo(stream)
	return Terminal{fd: fd, is: is}
}

// Is says whether there is a terminal.
func (t Terminal) Is() bool { return t.is }

// Size returns the terminal's size; zero where there is none or it has no size.
func (t Terminal) Size() Size {
	if !t.is {
		return Size{}
	}
	size, err := term.GetWinsize(t.fd)
	if err != nil || size.Height == 0 || size.Width == 0 {
		return Size{}
	}
	return Size{Rows: int(size.Height), Cols: int(size.Width)}
}

// untilPause is how long a reader may take to notice its end, in milliseconds.
const untilPause = 100

// Until reads what is typed until end is closed. What is typed after that is left to others.
func (t Terminal) Until(end <-chan struct{}) io.Reader { return &untilReader{t, end} }

type untilReader struct {
	Terminal
	end <-chan struct{}
}

func (r *untilReader) Read(p []byte) (int, error) {
	for {
		ready := []unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLIN}}
		_, err := unix.Poll(ready, untilPause)
		select {
		case <-r.end:
			return 0, io.EOF
		default:
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return 0, fmt.Errorf("read the terminal: %w", err)
		}
		if ready[0].Revents == 0 {
			continue
		}
		n, err := unix.Read(int(r.fd), p)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			return 0, fmt.Errorf("read the terminal: %w", err)
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// Follow calls f with the terminal's size, now and after each change, until ctx ends.
func (t Terminal) Follow(ctx context.Context, f func(Size)) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	defer signal.Stop(changed)
	for {
		if size := t.Size(); size != (Size{}) {
			f(size)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// Save returns a function that gives the terminal the settings that it has now. It may be called more than once.
func (t Terminal) Save() (restore func()) {
	if !t.is {
		return func() {}
	}
	state, err := term.SaveState(t.fd)
	if err != nil {
		return func() {}
	}
	return func() { t.restore(state) }
}

// Raw has every key reach whoever reads the terminal, if it is one, until restore, which may be called twice.
func (t Terminal) Raw() (restore func(), err error) {
	restore = t.Save()
	if !t.is {
		return restore, nil
	}
	if _, err := term.SetRawTerminal(t.fd); err != nil {
		return nil, fmt.Errorf("set up the terminal: %w", err)
	}
	return restore, nil
}

// ReadPassword reads a line from a terminal without showing it, until ctx ends; a Read may still be under way then.
func ReadPassword(ctx context.Context, tty *os.File) ([]byte, error) {
	t := Of(tty)
	state, err := term.SaveState(t.fd)
	if err != nil {
		return nil, err
	}
	if err := term.DisableEcho(t.fd, state); err != nil {
		return nil, err
	}
	defer t.restore(state)
	type line struct {
		text []byte
		err  error
	}
	typed := make(chan line, 1)
	go func() {
		text, err := bufio.NewReader(tty).ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(text) > 0 {
			err = nil
		}
		typed <- line{bytes.TrimRight(text, "\r\n"), err}
	}()
	select {
	case got := <-typed:
		return got.text, got.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// restore does what it can: the terminal may have gone away.
func (t Terminal) restore(state *term.State) { _ = term.RestoreTerminal(t.fd, state) }

// escapes are the control sequences of ECMA-48: CSI (colours, cursor moves), which may have been cut off; the
// strings OSC, DCS, SOS, PM and APC (titles, clipboard, answers typed back at the prompt) up to their terminator or
// the end of the line; and the two-byte ones.
var escapes = regexp.MustCompile("\x1b(?:" +
	"\\[[0-?]*[ -/]*[@-~]?|" +
	"[\\]PX^_][^\a\x1b\n]*(?:\a|\x1b\\\\)?|" +
	"[ -/]*[0-Z\\\\^-~])?")

// Strip takes a terminal's control sequences out of a text. Control characters that stand alone stay.
func Strip(s string) string {
	if strings.IndexByte(s, '\x1b') < 0 {
		return s
	}
	return escapes.ReplaceAllString(s, "")
}

// Plain is Strip for one line, less all else that does not print but tabs: a guest must not control the terminal.
func Plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, Strip(s))
}
