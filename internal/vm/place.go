package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"time"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/qemu"
)

// Place is where QEMU and gdb run.
type Place interface {
	// Open readies the place for one guest. Its Close ends whatever still runs there.
	Open(ctx context.Context, need Need) (*Site, error)
}

// Need is what a place is readied for.
type Need struct {
	Dir   string   // the out directory, absolute
	Files []string // of it, what is needed there; a name that is not there is left out
	Write string   // the one of them that the guest writes to; empty: none

	Shares []Share // their directories are absolute, and no links
}

// Site is an open place.
type Site struct {
	Dir   string // the out directory as programs there see it
	Run   string // a directory there for sockets
	Accel qemu.Accel
	Why   string // what keeps qemu.KVM from being used; empty with qemu.KVM

	// Isolated says that programs there have a network of their own, and see no more
	// of this machine's files than was asked for.
	Isolated bool

	index  string        // the directory where gdb finds its index of vmlinux; empty: there is none
	here   string        // the run directory on this machine
	guest  *RunningGuest // what others are told
	shares []Share
	link   *link
	unlock func()

	run runner
}

// runner is how a site does its work.
type runner interface {
	// start starts a program. wait returns when it has ended and all its output
	// was written: an *exec.ExitError or a *container.ExitError for a status other
	// than zero. The end of ctx kills it.
	start(ctx context.Context, p program) (wait func() error, err error)
	// local returns where, on this machine, the socket that a program there
	// listens on by this name can be dialled.
	local(ctx context.Context, socket string) (address string, err error)
	// end kills QEMU and returns once it is gone.
	end(ctx context.Context) error
	close(ctx context.Context) error
}

// program is a command at a site.
type program struct {
	Args           []string
	Person         bool      // it has the person's terminal, where Stdin is one: its keys, its signals, its size
	Term           string    // TERM of that
	Stdin          io.Reader // a Read that blocks for ever does not hold up its end
	Stdout, Stderr io.Writer
}

// Path is where programs there find an artifact.
func (s *Site) Path(file string) string { return s.Dir + "/" + file }

// Socket is where programs there find a socket.
func (s *Site) Socket(name string) string { return s.Run + "/" + name }

// Close ends what runs at the site and leaves nothing of it. It works after the
// end of ctx too.
func (s *Site) Close(ctx context.Context) error {
	if s.link != nil {
		s.link.close()
	}
	if s.unlock != nil {
		defer s.unlock()
	}
	return s.run.close(ctx)
}

// sharePath is where programs there find the shared directory of a number.
func (s *Site) sharePath(n int) string {
	if s.Isolated {
		return isolatedShare(n)
	}
	return s.shares[n].Dir
}

// isolatedShare is where the shared directory of a number is in a container.
func isolatedShare(n int) string { return fmt.Sprintf("/share/%d", n) }

// dial connects to a socket of a program that may only just be starting.
func (s *Site) dial(ctx context.Context, name string) (*net.UnixConn, error) {
	address, err := s.run.local(ctx, name)
	if err != nil {
		return nil, err
	}
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", address)
		if err == nil {
			return conn.(*net.UnixConn), nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("connect to %s: %w", name, context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Imaging gives the engine, and the image in it that has QEMU, gdb and socat. It
// is called only when a container is needed.
type Imaging func(context.Context) (eng container.Engine, image string, err error)

// Choose picks the place: this machine when it has both QEMU and gdb, else the
// container. tools, from KIMG_TOOLS, is "host" or "container" to have one of them,
// or empty. Both come from one place, so that what gdb is told of sockets and
// paths is true.
func Choose(ctx context.Context, tools string, imaging Imaging) (Place, error) {
	switch tools {
	case "", "host", "container":
	default:
		return nil, fmt.Errorf("use KIMG_TOOLS=%s: want host or container", tools)
	}
	if tools != "container" {
		missing := missingTools()
		if missing == nil {
			return Host{}, nil
		}
		if tools == "host" {
			return nil, fmt.Errorf("use KIMG_TOOLS=host: %w", missing)
		}
	}
	eng, image, err := imaging(ctx)
	if err != nil {
		return nil, err
	}
	return Container{Engine: eng, Image: image}, nil
}

func missingTools() error {
	_, noQEMU := exec.LookPath(arch.Default.QEMU)
	_, noGDB := exec.LookPath("gdb")
	return errors.Join(noQEMU, noGDB)
}
