package vm

import (
	"bufio"
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/terminal"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// How long a guest's sshd may take to greet, and to agree on keys, for which an emulated one needs seconds.
const (
	bannerLimit    = 5 * time.Second
	handshakeLimit = 2 * time.Minute
)

// dialSSHD connects until an sshd answers: QEMU and its relays accept connections before there is one.
func dialSSHD(ctx context.Context, at Address) (*peekedConn, error) {
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, at.Network, at.Address)
		if err == nil {
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			first := bufio.NewReader(conn)
			conn.SetReadDeadline(time.Now().Add(bannerLimit))
			if _, err = first.Peek(1); err == nil && stop() {
				conn.SetReadDeadline(time.Time{})
				return &peekedConn{Conn: conn, first: first}, nil
			}
			conn.Close()
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// peekedConn is a connection of which something has been read.
type peekedConn struct {
	net.Conn
	first *bufio.Reader
}

func (c *peekedConn) Read(p []byte) (int, error) { return c.first.Read(p) }

// CloseWrite ends one direction.
func (c *peekedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// logIn connects to the guest as root. It knows the guest's key.
func logIn(ctx context.Context, at Address, keys *Keys) (*ssh.Client, error) {
	conn, err := dialSSHD(ctx, at)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	conn.SetDeadline(time.Now().Add(handshakeLimit))
	c, channels, requests, err := ssh.NewClientConn(conn, HostAlias, &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(keys.User)},
		HostKeyCallback: ssh.FixedHostKey(keys.Host.PublicKey()), HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
	})
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("log in to the guest: %w", err)
	}
	conn.SetDeadline(time.Time{})
	return ssh.NewClient(c, channels, requests), nil
}

// errLost says that the connection to the guest's sshd ended before the command did.
var errLost = errors.New("the connection to the guest was lost")

// runSSH runs a command, or without one root's shell, on the user's streams, and returns its status: after signal N
// 128+N. On a terminal it gets one too. Typed at the beginning of a line, ~. ends the connection, as in OpenSSH: a
// guest that hangs reacts to nothing else.
func (u *User) runSSH(ctx context.Context, client *ssh.Client, argv []string) (int, error) {
	defer context.AfterFunc(ctx, func() { client.Close() })()
	s, err := client.NewSession()
	if err != nil {
		return 0, fmt.Errorf("open a session in the guest: %w", err)
	}
	defer s.Close()
	stdin, err := s.StdinPipe()
	if err != nil {
		return 0, err
	}
	broken := make(chan error, 2)
	s.Stdout, s.Stderr = &watched{u.Stdout, broken}, &watched{u.Stderr, broken}
	from := u.Stdin
	if u.wantsTerminal(argv) {
		restore, err := openPTY(ctx, s, terminal.Of(u.Stdin), u.Term)
		if err != nil {
			return 0, err
		}
		defer restore()
		from = &tilde{from: u.Stdin, newLine: true}
	}
	if len(argv) == 0 {
		err = s.Shell()
	} else {
		err = s.Start(strings.TrimSuffix(Script(argv), "\n"))
	}
	if err != nil {
		return 0, fmt.Errorf("run a command in the guest: %w", err)
	}
	detached := make(chan struct{})
	go func() {
		var err error
		if from != nil {
			_, err = io.Copy(stdin, from)
		}
		if errors.Is(err, errDetached) {
			close(detached)
		}
		stdin.Close()
	}()
	ended := make(chan error, 1)
	go func() { ended <- s.Wait() }()
	for interrupts := 0; ; {
		select {
		case err := <-ended:
			return sshStatus(err)
		case err := <-broken:
			return 0, fmt.Errorf("write the command's output: %w", err)
		case <-detached:
			if len(argv) > 0 {
				return 0, ErrInterrupted
			}
			return 0, nil
		case <-u.Interrupt:
			if interrupts++; interrupts > 1 {
				return 0, ErrInterrupted
			}
			_ = s.Signal(ssh.SIGINT) // if it cannot be sent, the second one helps
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// sshStatus is the exit status of a command, by the error of its Wait.
func sshStatus(err error) (int, error) {
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		return exit.ExitStatus(), nil
	}
	return 0, errLost
}

// wantsTerminal: a shell gets one where its input is one, a command where all of its streams are.
func (u *User) wantsTerminal(argv []string) bool {
	return terminal.Of(u.Stdin).Is() && (len(argv) == 0 || terminal.Of(u.Stdout).Is() && terminal.Of(u.Stderr).Is())
}

// openPTY gives the session a terminal like the user's and has every key go there, until restore.
func openPTY(ctx context.Context, to *ssh.Session, user terminal.Terminal, name string) (restore func(), err error) {
	size := user.Size()
	if size == (terminal.Size{}) {
		size = terminal.Size{Rows: 24, Cols: 80}
	}
	if err := to.RequestPty(cmp.Or(name, "dumb"), size.Rows, size.Cols, ssh.TerminalModes{}); err != nil {
		return nil, fmt.Errorf("get a terminal in the guest: %w", err)
	}
	raw, err := user.Raw()
	if err != nil {
		return nil, err
	}
	following, stop := context.WithCancel(ctx)
	go user.Follow(following, func(size terminal.Size) {
		_ = to.WindowChange(size.Rows, size.Cols) // a guest that is gone ends the session
	})
	return func() {
		stop()
		raw()
	}, nil
}

// watched reports the errors of a writer.
type watched struct {
	w      io.Writer
	broken chan<- error
}

func (w *watched) Write(p []byte) (int, error) {
	if w.w == nil {
		return len(p), nil
	}
	n, err := w.w.Write(p)
	if err != nil {
		w.broken <- err
	}
	return n, err
}

// tilde is what a user types, with ~. at the beginning of a line as the end of it, and ~~ there as a ~.
type tilde struct {
	from    io.Reader
	newLine bool
	after   bool // a ~ was typed there, and is held
}

func (t *tilde) Read(p []byte) (int, error) {
	if len(p) < 2 {
		return 0, io.ErrShortBuffer
	}
	for {
		n, err := t.from.Read(p[:len(p)/2]) // a ~ that was held may go before each
		var kept []byte
		for _, key := range p[:n] {
			switch {
			case t.after && key == '.':
				return 0, errDetached
			case t.after && key != '~':
				kept = append(kept, '~', key)
			case !t.after && t.newLine && key == '~':
				t.after, t.newLine = true, false
				continue
			default:
				kept = append(kept, key)
			}
			t.after, t.newLine = false, key == '\r' || key == '\n'
		}
		if len(kept) > 0 || err != nil || n == 0 {
			return copy(p, kept), err
		}
	}
}

// Keys are what the guests of an out directory and their users know each other by. They stay on this machine, and a
// guest gets them when it boots: keys in an image would be no secret, and no two builds would be the same.
type Keys struct {
	User ssh.Signer // logs in as root
	Host ssh.Signer // is the guest's sshd

	dir string
}

// The files of a directory of keys. The known hosts are for other clients than kimg.
const (
	userKeyFile    = "id_ed25519"
	hostKeyFile    = "host_ed25519"
	knownHostsFile = "known_hosts"
	keysLock       = "lock"
)

// HostAlias is the guests' name in the file of known hosts: they have no address of their own.
const HostAlias = "kimg"

// UserKeyFile has the key to log in with, as OpenSSH keeps it.
func (k *Keys) UserKeyFile() string { return filepath.Join(k.dir, userKeyFile) }

// KnownHostsFile names the guest's key, as OpenSSH keeps it.
func (k *Keys) KnownHostsFile() string { return filepath.Join(k.dir, knownHostsFile) }

// LoadKeys reads the keys in dir, and makes those that are missing.
func LoadKeys(ctx context.Context, dir string) (*Keys, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make keys: %w", err)
	}
	unlock, err := filelock.Take(ctx, filepath.Join(dir, keysLock), func() {}) // for milliseconds
	if err != nil {
		return nil, fmt.Errorf("make keys: %w", err)
	}
	defer unlock()
	k := &Keys{dir: dir}
	for name, key := range map[string]*ssh.Signer{userKeyFile: &k.User, hostKeyFile: &k.Host} {
		if *key, err = loadKey(filepath.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	line := knownhosts.Line([]string{HostAlias}, k.Host.PublicKey()) + "\n"
	if old, err := os.ReadFile(k.KnownHostsFile()); err != nil || string(old) != line {
		if err := renameio.WriteFile(k.KnownHostsFile(), []byte(line), 0o600); err != nil {
			return nil, fmt.Errorf("make keys: %w", err)
		}
	}
	return k, nil
}

// loadKey reads a private key, or makes it where there is none.
func loadKey(file string) (ssh.Signer, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = makeKey(file)
	}
	if err != nil {
		return nil, fmt.Errorf("make keys: %w", err)
	}
	key, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, &KeyError{File: file, Err: err}
	}
	return key, nil
}

func makeKey(file string) ([]byte, error) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "kimg")
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(block)
	return text, renameio.WriteFile(file, text, 0o600)
}

// KeyError says that a file is not a key of kimg's.
type KeyError struct {
	File string
	Err  error
}

func (e *KeyError) Error() string { return fmt.Sprintf("read the key %s: %v", e.File, e.Err) }

func (e *KeyError) Unwrap() error { return e.Err }

func (e *KeyError) Hint() string { return "remove it: kimg makes another one, for the next guest" }

// give writes the keys as a guest takes them (package guest).
func (k *Keys) give(w io.Writer) error {
	host, err := os.ReadFile(filepath.Join(k.dir, hostKeyFile))
	if err != nil {
		return fmt.Errorf("give the guest its keys: %w", err)
	}
	text := func(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
	_, err = fmt.Fprintf(w, "host_key %s\nauthorized_keys %s\nend\n",
		text(host), text(ssh.MarshalAuthorizedKey(k.User.PublicKey())))
	return err
}
