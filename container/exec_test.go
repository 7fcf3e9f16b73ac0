package container_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/container/containertest"
)

func TestExec(t *testing.T) { each(t, testExec) }

func testExec(t *testing.T, e container.Engine) {
	ref := containertest.Image(t, e)
	c, err := e.Create(t.Context(), &container.Cmd{Image: ref, Args: []string{containertest.Helper, "sleep"},
		Caps: []string{"CHOWN"}, Init: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Remove(t.Context())
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	in := numbers(16 << 20)
	var out, bad bytes.Buffer
	if err := c.Exec(t.Context(), &container.ExecCmd{Args: []string{containertest.Helper, "count"},
		Stdin: bytes.NewReader(in), Stdout: &out, Stderr: &bad}); err != nil {
		t.Error(err)
	}
	if want := fmt.Sprintf("%d %x\n", len(in), sha256.Sum256(in)); out.String() != want || bad.Len() > 0 {
		t.Errorf("got %q %q, want %q", &out, &bad, want)
	}
	var exit *container.ExitError
	if err := c.Exec(t.Context(),
		&container.ExecCmd{Args: []string{containertest.Helper, "exit", "9"}}); !errors.As(err, &exit) ||
		exit.Code != 9 {
		t.Errorf("got %v, want exit status 9", err)
	}
	out.Reset()
	if err := c.Exec(t.Context(), &container.ExecCmd{Args: []string{containertest.Helper, "status"},
		Stdout: &out}); err != nil {
		t.Error(err)
	}
	if !strings.Contains(out.String(), "CapEff:\t0000000000000001\n") {
		t.Errorf("an exec has other capabilities than its container:\n%s", &out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := c.Exec(ctx,
		&container.ExecCmd{Args: []string{containertest.Helper, "sleep"}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := container.Kill(t.Context(), c); err != nil {
		t.Error(err)
	}
	if err := c.Wait(); !errors.As(err, &exit) || exit.Code != 137 {
		t.Errorf("got %v, want exit status 137", err)
	}
}

func TestTerminal(t *testing.T) { each(t, testTerminal) }

func testTerminal(t *testing.T, e container.Engine) {
	ref := containertest.Image(t, e)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, in := io.Pipe()
	sizes := make(chan container.Winsize, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- container.Run(ctx, e, &container.Cmd{Image: ref, Args: []string{containertest.Helper, "size"},
			TTY: true, Stdout: in, Resize: sizes})
		in.Close()
	}()
	lines := bufio.NewScanner(out)
	for _, size := range []container.Winsize{{Rows: 33, Cols: 101}, {Rows: 50, Cols: 200}} {
		sizes <- size
		want := fmt.Sprint(size.Rows, " ", size.Cols)
		for lines.Scan() && strings.TrimSpace(lines.Text()) != want {
		}
		if strings.TrimSpace(lines.Text()) != want {
			t.Fatalf("size %s never arrived: %q", want, lines.Text())
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}

	// Ctrl-P Ctrl-Q is the process's own, not the engine's: in a line, a terminal echoes it and gives it to cat.
	var echoed bytes.Buffer
	err := container.Run(t.Context(), e, &container.Cmd{Image: ref, Args: []string{containertest.Helper, "cat"},
		TTY:   true,
		Stdin: strings.NewReader("a\x10\x11b\n\x04"), Stdout: &echoed})
	if err != nil || !strings.Contains(echoed.String(), "a\x10b\r\n") {
		t.Errorf("got %q, %v", &echoed, err)
	}
}

func TestExitErrorText(t *testing.T) {
	for want, err := range map[string]error{
		"exit status 2": &container.ExitError{Code: 2},
		"exit status 137 (killed: out of memory)": &container.ExitError{Code: 137, OOMKilled: true},
	} {
		if err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	}
}
