//go:build linux

package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// kimg is the command under test and every process of it that a test started.
type kimg struct {
	bin  string
	dir  string // where it is run
	env  []string
	pids *[]int

	as      *syscall.Credential // whom it runs as; nil: this user
	started func(pid int)       // is told of each process that was started; nil: nobody is
}

// limit bounds one run of kimg. The slowest is a cold build on two busy cores.
const limit = 45 * time.Minute

// newKimg builds the command. On a laptop it keeps the person's cache: what an
// earlier run downloaded and compiled is not asked for again. In CI the cache is
// an empty one, so that everything but the toolchain images is made anew.
func newKimg(t *testing.T) kimg {
	t.Helper()
	k := kimg{bin: filepath.Join(t.TempDir(), "kimg"), dir: t.TempDir(), pids: new([]int)}
	build := exec.Command("go", "build", "-o", k.bin, "github.com/kimg/kimg/cmd/kimg")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build kimg: %v\n%s", err, out)
	}
	if os.Getenv("CI") != "" {
		k.env = append(os.Environ(), "KIMG_CACHE="+t.TempDir())
	}
	return k
}

// command returns a kimg that is told to stop when the test's time is up.
func (k kimg) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, k.bin, args...)
	cmd.Dir, cmd.Env = k.dir, k.env
	cmd.Env = append(cmd.Environ(), "CI=true") // nothing goes on in the background
	if k.as != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: k.as}
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	return cmd
}

// result is what one run of kimg ended with.
type result struct {
	code           int
	stdout, stderr string
	took           time.Duration
}

// run runs kimg to its end with stdin as its input.
func (k kimg) run(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	cmd := k.command(t, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	*k.pids = append(*k.pids, cmd.Process.Pid)
	if k.started != nil {
		k.started(cmd.Process.Pid)
	}
	code := exitCode(t, cmd.Wait())
	r := result{code, stdout.String(), stderr.String(), time.Since(begun)}
	t.Logf("kimg %s: exit status %d after %v", strings.Join(args, " "), r.code, r.took.Round(time.Millisecond))
	return r
}

// want fails the test unless the exit status is code.
func (r result) want(t *testing.T, code int) result {
	t.Helper()
	if r.code != code {
		t.Fatalf("exit status is %d, want %d\nstdout:\n%s\nstderr:\n%s", r.code, code, r.stdout, r.stderr)
	}
	return r
}

func exitCode(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	t.Fatal(err)
	return -1
}

// onTerminal runs kimg on a terminal of its own.
func (k kimg) onTerminal(t *testing.T, args ...string) (*exec.Cmd, *console) {
	t.Helper()
	master, slave := openTerminal(t, 40, 120)
	cmd := k.command(t, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = controlling()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	*k.pids = append(*k.pids, cmd.Process.Pid)
	c := &console{t: t, w: master, more: make(chan []byte)}
	go func() {
		defer close(c.more)
		for {
			b := make([]byte, 4096)
			n, err := master.Read(b)
			if n > 0 {
				c.more <- b[:n]
			}
			if err != nil {
				return // EIO: the last process on the terminal has ended
			}
		}
	}()
	return cmd, c
}

// console is what a person sees and types.
type console struct {
	t    *testing.T
	w    io.Writer
	more chan []byte
	seen []byte
	read int // how much of seen expect has passed
}

// expect waits until text has been shown after what was expected before.
func (c *console) expect(text string, within time.Duration) {
	c.t.Helper()
	timeout := time.After(within)
	for {
		if i := bytes.Index(c.seen[c.read:], []byte(text)); i >= 0 {
			c.read += i + len(text)
			return
		}
		select {
		case b, ok := <-c.more:
			if !ok {
				c.t.Fatalf("the terminal closed before it showed %q:\n%s", text, c.seen)
			}
			c.seen = append(c.seen, b...)
		case <-timeout:
			c.t.Fatalf("the terminal did not show %q within %v:\n%s", text, within, c.seen)
		}
	}
}

func (c *console) send(keys string) {
	c.t.Helper()
	if _, err := io.WriteString(c.w, keys); err != nil {
		c.t.Fatal(err)
	}
}

// rest reads until the terminal closes.
func (c *console) rest() {
	for b := range c.more {
		c.seen = append(c.seen, b...)
	}
}
