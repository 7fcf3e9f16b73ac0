package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Sandbox is what Start made. Its methods may be called from several goroutines.
type Sandbox struct {
	link *link
	once sync.Once
}

// Start makes a sandbox; nothing runs in it yet but its pid 1. Everything in it ends with Close or with this process.
// The end of ctx after Start returned does nothing.
func Start(ctx context.Context, c Config) (*Sandbox, error) {
	if c.Hostname == "" {
		c.Hostname = "kimg"
	}
	paths := []*string{&c.Root}
	if c.Layer != "" {
		paths = append(paths, &c.Layer)
	}
	mounts := append([]Mount(nil), c.Mounts...)
	for i := range mounts {
		paths = append(paths, &mounts[i].Source)
	}
	c.Mounts = mounts
	for _, p := range paths { // pid 1 is in another directory
		abs, err := filepath.Abs(*p)
		if err != nil {
			return nil, err
		}
		*p = abs
	}
	l, err := spawn(ctx, c.IDs, unix.CLONE_NEWNS|unix.CLONE_NEWPID|unix.CLONE_NEWIPC|unix.CLONE_NEWUTS|
		unix.CLONE_NEWNET|unix.CLONE_NEWCGROUP)
	if err != nil {
		return nil, fmt.Errorf("start a sandbox: %w", err)
	}
	if err := l.call(ctx, job{Op: opRoom, Room: &c}); err != nil {
		l.close()
		return nil, fmt.Errorf("start a sandbox: %w", err)
	}
	return &Sandbox{link: l}, nil
}

// Run starts a process: the first one and any further ones alike. The error of a program or directory that is not
// there is fs.ErrNotExist, of one that may not be used fs.ErrPermission, for errors.Is.
func (s *Sandbox) Run(p Process) (*Running, error) {
	if len(p.Args) == 0 {
		return nil, errors.New("run: no program was named")
	}
	caps, err := capSet(p.Caps)
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", p.Args[0], err)
	}
	var filter []unix.SockFilter
	if !p.Privileged {
		if filter, err = filterFor(caps); err != nil {
			return nil, fmt.Errorf("run %s: %w", p.Args[0], err)
		}
	}
	j := job{Op: opRun, Proc: &process{
		Args: p.Args, Env: p.Env, Dir: p.Dir, User: p.User, Caps: caps, Privileged: p.Privileged, TTY: p.TTY,
		Filter: filter,
	}}
	var files []*os.File
	if !p.TTY {
		files = []*os.File{p.Stdin, p.Stdout, p.Stderr}
		for i := range files {
			if files[i] == nil {
				null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
				if err != nil {
					return nil, err
				}
				defer null.Close()
				files[i] = null
			}
		}
	}
	w, err := s.link.begin(j, files...)
	if err != nil {
		return nil, err
	}
	var first reply
	got, err := w.receive(&first)
	if err != nil {
		err = fmt.Errorf("run %s: %w", p.Args[0], s.link.why(err))
	} else {
		err = first.err()
	}
	r := &Running{wire: w, done: make(chan struct{})}
	if len(got) > 0 {
		r.PTY = got[0]
	}
	if err != nil {
		w.Close()
		if r.PTY != nil {
			r.PTY.Close()
		}
		return nil, err
	}
	go r.wait(s.link)
	return r, nil
}

// KillAll kills all processes but pid 1, and returns when they are gone.
func (s *Sandbox) KillAll() error { return s.link.call(context.Background(), job{Op: opKillAll}) }

// Unpack unpacks a plain tar in the directory dir of the sandbox, which must exist, its mounts included. It works while
// nothing runs and while something does.
func (s *Sandbox) Unpack(ctx context.Context, dir string, tar io.Reader) error {
	return s.link.unpack(ctx, dir, tar)
}

// Pack writes a tar of the file or directory at path in the sandbox. The names in it begin with path's last element.
// Only where there is nothing at path is the error fs.ErrNotExist. A symbolic link at path's end is packed as one.
func (s *Sandbox) Pack(ctx context.Context, path string, tar io.Writer) error {
	return s.link.pack(ctx, path, tar)
}

// Close kills everything in the sandbox, and returns when it is gone. A second call does nothing.
func (s *Sandbox) Close() error {
	s.once.Do(s.link.close)
	return nil
}

// Running is a process that Run started.
type Running struct {
	// PTY is the terminal's master, only with Process.TTY. A read of it ends with EIO when no process has the
	// terminal open any more. The caller closes it.
	PTY *os.File

	wire   *wire
	done   chan struct{}
	status int
	err    error
}

func (r *Running) wait(l *link) {
	defer close(r.done)
	defer r.wire.Close()
	var last reply
	if _, err := r.wire.receive(&last); err != nil {
		r.err = l.why(err)
		return
	}
	r.status, r.err = last.Status, last.err()
}

// Wait returns the exit status of the process, 128+n where signal n ended it. The error is that of the sandbox, which
// ended before. It may be called more than once.
func (r *Running) Wait() (status int, err error) {
	<-r.done
	return r.status, r.err
}

// Signal sends a signal to the process; to one that has ended it does nothing.
func (r *Running) Signal(number syscall.Signal) error {
	if err := r.wire.send(sig{number}); err != nil {
		<-r.done // it has ended, or all of the sandbox has
	}
	return nil
}

// Resize sets the size of the terminal, and tells its processes.
func (r *Running) Resize(rows, cols uint16) error {
	c, err := r.PTY.SyscallConn()
	if err != nil {
		return err
	}
	var ierr error
	err = c.Control(func(fd uintptr) {
		ierr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	})
	return errors.Join(err, ierr)
}
