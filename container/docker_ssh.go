package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode"
)

// sshDialer connects to the engine of another machine as the docker command does for DOCKER_HOST=ssh://USER@HOST:
// each connection is an ssh process that runs "docker system dial-stdio" there. The user's ssh brings the keys, the
// known hosts, the agent and the configuration. Source: docker/cli, cli/connhelper, which is not imported: this is
// less than what it would bring along.
type sshDialer struct {
	to   string // USER@HOST, for messages
	args []string

	mu   sync.Mutex
	last error // why the last ssh that failed did; Docker's client drops the reason of some failures
}

// sshError is an ssh that ended with a status other than zero.
type sshError struct {
	to     string
	exit   error
	stderr string // its end
}

func (e *sshError) Error() string {
	if e.stderr == "" {
		return fmt.Sprintf("ssh %s: %v", e.to, e.exit)
	}
	return fmt.Sprintf("ssh %s: %v: %s", e.to, e.exit, e.stderr)
}

// What ssh and the shell on the other side may be given. Both take some texts for more than a name: a leading dash is
// an option, and the shell reads the path.
var (
	sshUser = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@+\\-]*$`)
	sshHost = regexp.MustCompile(`^[A-Za-z0-9_:][A-Za-z0-9_.:-]*$`)
	sshPath = regexp.MustCompile(`^/[A-Za-z0-9_./@:+=-]*$`)
)

var errAddress = errors.New("invalid address")

// newSSHDialer reads ssh://[USER@]HOST[:PORT][/SOCKET].
func newSSHDialer(host string) (*sshDialer, error) {
	u, err := url.Parse(host)
	if err != nil {
		var bad *url.Error
		errors.As(err, &bad) // without its repetition of the address
		return nil, fmt.Errorf("%w: %w", errAddress, bad.Err)
	}
	d := &sshDialer{to: u.Hostname(), args: []string{"-o", "ConnectTimeout=30", "-T"}}
	if u.RawQuery != "" || u.Fragment != "" || u.ForceQuery {
		return nil, fmt.Errorf("%w: it has a part after ? or #, which ssh does not take", errAddress)
	}
	if u.User != nil {
		name := u.User.Username()
		if _, secret := u.User.Password(); secret {
			return nil, fmt.Errorf("%w: a password does not belong in it; ssh uses its keys", errAddress)
		}
		if !sshUser.MatchString(name) {
			return nil, fmt.Errorf("%w: user %q", errAddress, name)
		}
		d.to = name + "@" + d.to
		d.args = append(d.args, "-l", name)
	}
	if u.Port() != "" {
		if n, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("%w: port %q", errAddress, u.Port())
		}
		d.args = append(d.args, "-p", u.Port())
	}
	if !sshHost.MatchString(u.Hostname()) {
		return nil, fmt.Errorf("%w: host %q", errAddress, u.Hostname())
	}
	d.args = append(d.args, "--", u.Hostname(), "docker")
	if u.Path != "" && u.Path != "/" {
		if !sshPath.MatchString(u.Path) {
			return nil, fmt.Errorf("%w: socket %q", errAddress, u.Path)
		}
		d.args = append(d.args, "--host", "unix://"+u.Path)
	}
	d.args = append(d.args, "system", "dial-stdio")
	return d, nil
}

// dial starts an ssh. That it has connected shows with the first answer.
func (d *sshDialer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c := &sshConn{from: d, ended: make(chan struct{}), drained: make(chan struct{})}
	c.cmd = exec.Command("ssh", d.args...)
	c.cmd.Stderr = &c.stderr
	// A connection that ssh shares with later ones (ControlPersist) keeps its standard error open.
	c.cmd.WaitDelay = time.Second
	apart(c.cmd)
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	// Not StdoutPipe: what ssh wrote can be read after its end.
	out, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	c.out, c.cmd.Stdout = out, theirs
	if err := c.cmd.Start(); err != nil {
		d.failed(err)
		return nil, errors.Join(err, out.Close())
	}
	return c, nil
}

func (d *sshDialer) failed(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = err
}

// failure returns why the last ssh that failed did, or nil.
func (d *sshDialer) failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last
}

// sshConn is a connection whose other end is the engine's. The ssh process ends with it.
type sshConn struct {
	from   *sshDialer
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *os.File
	stderr tail

	reap  sync.Once
	ended chan struct{} // closed once exit is set
	exit  error

	drain   sync.Once
	drained chan struct{} // closed by the end of what can be read
	closed  atomic.Bool
}

// wait reaps the process in the background.
func (c *sshConn) wait() {
	c.reap.Do(func() {
		go func() {
			c.exit = c.cmd.Wait()
			close(c.ended)
		}()
	})
}

func (c *sshConn) Read(p []byte) (int, error) {
	n, err := c.out.Read(p)
	if n == 0 && err != nil {
		err = c.why(err)
		c.drain.Do(func() { close(c.drained) })
	}
	return n, err
}

func (c *sshConn) Write(p []byte) (int, error) {
	n, err := c.in.Write(p)
	if errors.Is(err, syscall.EPIPE) {
		// An engine may answer before it has read everything, and take no more. Its answer explains more than this
		// error, which would have it thrown away.
		select {
		case <-c.drained:
		case <-time.After(2 * time.Second):
		}
		err = c.why(err)
	}
	return n, err
}

// why returns what is behind the end of a stream: a failed ssh's words, or err itself.
func (c *sshConn) why(err error) error {
	if c.closed.Load() {
		return err
	}
	c.wait()
	select {
	case <-c.ended:
	case <-time.After(2 * time.Second):
		return err
	}
	var exit *exec.ExitError
	if !errors.As(c.exit, &exit) {
		return err
	}
	failed := &sshError{to: c.from.to, exit: c.exit, stderr: c.stderr.text()}
	c.from.failed(failed)
	return failed
}

// CloseWrite ends the engine's input.
func (c *sshConn) CloseWrite() error { return c.in.Close() }

func (c *sshConn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	c.drain.Do(func() { close(c.drained) })
	c.in.Close()
	c.out.Close()
	c.cmd.Process.Signal(syscall.SIGTERM) // fails only where ssh has ended already
	c.wait()
	go func() {
		select {
		case <-c.ended:
		case <-time.After(2 * time.Second):
			c.cmd.Process.Kill()
		}
	}()
	return nil
}

func (c *sshConn) LocalAddr() net.Addr              { return sshAddr("localhost") }
func (c *sshConn) RemoteAddr() net.Addr             { return sshAddr(c.from.to) }
func (c *sshConn) SetDeadline(time.Time) error      { return nil }
func (c *sshConn) SetReadDeadline(time.Time) error  { return nil }
func (c *sshConn) SetWriteDeadline(time.Time) error { return nil }

type sshAddr string

func (sshAddr) Network() string  { return "ssh" }
func (a sshAddr) String() string { return string(a) }

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	const most = 2048 // bytes
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if over := len(t.b) - most; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

// text is one line of it, fit for a terminal.
func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	printable := func(r rune) rune {
		if unicode.IsPrint(r) || r == '\n' {
			return r
		}
		return -1
	}
	lines := strings.FieldsFunc(strings.Map(printable, string(t.b)), func(r rune) bool { return r == '\n' })
	return strings.Join(lines, "; ")
}
