// Package toolbox runs QEMU, gdb and e2fsck where they are installed: on this machine, or in a container ([Choose]
// says which). A [Toolbox] is opened for one guest; programs then run in its [Tools], where files and sockets may
// have other names than on this machine. Which arguments the programs get is up to the caller.
package toolbox

import (
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"time"

	"github.com/kimg/kimg/internal/qemu"
)

// Toolbox is where QEMU and gdb run.
type Toolbox interface {
	// Open readies it for one guest. The Tools' Close ends whatever still runs there.
	Open(ctx context.Context, m Mounts) (*Tools, error)
	// QEMU is the program that runs guests: a file of this machine, or of a container image, whose name is of all
	// that is in it. Both are empty where it is out of reach.
	QEMU() (file, image string)
}

// Mounts are what the programs need to see of this machine.
type Mounts struct {
	Dir    string   // the out directory, absolute
	Files  []string // of it, what is needed; a name that is not there is left out
	Write  string   // the one of them that the guest writes to; empty: none
	Shares []Share
	Kept   string // a directory with the files of a kept guest, absolute; empty: none
	Keep   bool   // they are yet to be written
	Index  bool   // gdb's index of vmlinux is all that is wanted: it is made at once
}

// Share is a directory that the guest sees. Dir is absolute, and no link.
type Share struct {
	Dir   string
	Write bool
}

// Tools are an open toolbox.
type Tools struct {
	Dir     string   // the out directory as the programs see it
	Shares  []string // the shared directories as they see them, in the order of the Mounts
	Kept    string   // the kept guest's directory as they see it
	Memory  string   // a file in memory for the RAM of a guest to keep, as they see it; empty: there is none
	Sockets string   // a directory for sockets as they see it
	RunDir  string   // a directory on this machine for the guest's own sockets and files
	GDB     string   // the gdb that knows the guests' processors; empty: gdb
	Index   string   // directory where gdb finds its index of vmlinux; empty: there is none
	// Indexed is closed once that index has been made for the next time, or cannot be; nil: nobody makes it.
	Indexed <-chan struct{}

	Accel qemu.Accel // the best that works
	NoKVM string     // what keeps KVM, or macOS's HVF, from being used; empty with it

	// Isolated says that the programs have a network of their own, and see no more of
	// this machine's files than the Mounts.
	Isolated bool

	Runner
}

// Runner runs the programs.
type Runner interface {
	// Start starts a program. wait returns when it has ended and all its output was
	// written: ExitStatus tells about its error. The end of ctx kills the program.
	Start(ctx context.Context, p Program) (wait func() error, err error)
	// Local returns the address on this machine that reaches the Unix socket on which
	// a program listens by this name.
	Local(ctx context.Context, socket string) (address string, err error)
	// Kill kills QEMU and returns once it is gone.
	Kill(ctx context.Context) error
	// Close ends what runs and removes what was made for it. It works after the end of ctx too.
	Close(ctx context.Context) error
}

// Program is a command.
type Program struct {
	Args           []string
	Terminal       bool      // it has the user's terminal, where Stdin is one: its keys, signals and size
	Term           string    // TERM of that
	Stdin          io.Reader // a Read that blocks for ever does not hold up the program's end
	Stdout, Stderr io.Writer
}

// Path is where programs find a file of the out directory.
func (t *Tools) Path(file string) string { return t.Dir + "/" + file }

// Socket is where programs find a socket.
func (t *Tools) Socket(name string) string { return t.Sockets + "/" + name }

// Dial connects to a socket of a program that may only just be starting. It tries until ctx ends.
func (t *Tools) Dial(ctx context.Context, name string) (*net.UnixConn, error) {
	address, err := t.Local(ctx, name)
	if err != nil {
		return nil, err
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", address)
		if err == nil {
			return conn.(*net.UnixConn), nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("connect to %s: %w", name, context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}

// FindSystem looks for a program where an ordinary user's PATH does not, too.
func (t *Tools) FindSystem(name string) (string, error) {
	if t.Isolated {
		return name, nil
	}
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if err == nil {
			break
		}
		if there, bad := exec.LookPath(dir + name); bad == nil {
			path, err = there, nil
		}
	}
	return path, err
}
