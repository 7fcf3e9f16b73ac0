package terminal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openPTY returns both ends of a pseudo-terminal.
func openPTY(t *testing.T) (user, program *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { user.Close() })
	if err := unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return user, program
}

func flags(t *testing.T, f *os.File) uint32 {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag & (unix.ECHO | unix.ICANON | unix.ISIG)
}

func TestRaw(t *testing.T) {
	_, tty := openPTY(t)
	was := flags(t, tty)
	restore, err := Of(tty).Raw()
	if err != nil {
		t.Fatal(err)
	}
	if got := flags(t, tty); got != 0 {
		t.Errorf("raw mode has the flags %#x", got)
	}
	for range 2 {
		restore()
		if got := flags(t, tty); got != was {
			t.Errorf("restored to %#x, was %#x", got, was)
		}
	}
}

// What is typed after the end is left to who reads next.
func TestUntil(t *testing.T) {
	user, tty := openPTY(t)
	restore, err := Of(tty).Raw()
	if err != nil {
		t.Fatal(err)
	}
	defer restore()
	end := make(chan struct{})
	r := Of(tty).Until(end)
	if _, err := user.WriteString("ab"); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 8)
	if n, err := r.Read(p); err != nil || string(p[:n]) != "ab" {
		t.Errorf("%q, %v", p[:n], err)
	}
	ended := make(chan error)
	go func() { _, err := r.Read(make([]byte, 8)); ended <- err }()
	close(end)
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	if _, err := user.WriteString("cd"); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Read(p); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %q, %v", p[:n], err)
	}
	if n, err := tty.Read(p); err != nil || string(p[:n]) != "cd" {
		t.Errorf("the next one: %q, %v", p[:n], err)
	}
}

func TestSize(t *testing.T) {
	_, tty := openPTY(t)
	if size := Of(tty).Size(); size != (Size{}) {
		t.Errorf("a terminal without a size has %v", size)
	}
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	sizes := make(chan Size, 2)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		Of(tty).Follow(ctx, func(s Size) { sizes <- s })
	}()
	if size := <-sizes; size != (Size{Rows: 24, Cols: 80}) {
		t.Errorf("the first size is %v", size)
	}
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 132}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(os.Getpid(), unix.SIGWINCH); err != nil { // it is not the test's controlling terminal
		t.Fatal(err)
	}
	if size := <-sizes; size != (Size{Rows: 50, Cols: 132}) {
		t.Errorf("the next size is %v", size)
	}
	cancel()
	<-ended
}

func TestReadPassword(t *testing.T) {
	user, tty := openPTY(t)
	was := flags(t, tty)
	type answer struct {
		text []byte
		err  error
	}
	read := make(chan answer, 1)
	ctx, cancel := context.WithCancelCause(t.Context())
	ask := func() {
		text, err := ReadPassword(ctx, tty)
		read <- answer{text, err}
	}
	go ask()
	for flags(t, tty)&unix.ECHO != 0 {
		time.Sleep(time.Millisecond)
	}
	if _, err := user.WriteString("sesame\n"); err != nil {
		t.Fatal(err)
	}
	if got := <-read; string(got.text) != "sesame" || got.err != nil {
		t.Errorf("%q, %v", got.text, got.err)
	}
	if got := flags(t, tty); got != was {
		t.Errorf("left with the flags %#x, was %#x", got, was)
	}
	enough := errors.New("enough")
	go ask()
	cancel(enough)
	if got := <-read; !errors.Is(got.err, enough) {
		t.Errorf("after the end: %q, %v", got.text, got.err)
	}
	if got := flags(t, tty); got != was {
		t.Errorf("left with the flags %#x, was %#x", got, was)
	}
}
