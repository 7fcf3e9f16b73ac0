package sandbox

import (
	"context"
	"errors"
	"io"
	"os"
)

var errNotYet = errors.New("not yet")

// SubIDs returns ids of which 0 is this user, and those from 1 on are the first range of this user in /etc/subuid and
// in /etc/subgid that has at least 65535. The error says what is missing.
func SubIDs() (IDs, error) { return IDs{}, errNotYet }

// OneID returns ids of which there is one: this user is uid, and its group gid.
func OneID(uid, gid int) IDs {
	return IDs{
		UIDs: []Range{{Inside: uint32(uid), Outside: uint32(os.Getuid()), Size: 1}},
		GIDs: []Range{{Inside: uint32(gid), Outside: uint32(os.Getgid()), Size: 1}},
	}
}

// Overlay tries an overlay in a user namespace with its layers in dir. The error says why there is none: Config.Layer
// does not work there then, and Copy does.
func Overlay(ctx context.Context, ids IDs, dir string) error { return errNotYet }

// Unpack unpacks a plain tar into dir, which is made where it is missing. Owners (with one id: this user's all of
// them), modes, times and extended attributes are the tar's; device nodes are left out. No name or link of the tar
// leads out of dir.
func Unpack(ctx context.Context, ids IDs, dir string, tar io.Reader) error { return errNotYet }

// Pack writes a tar of the tree at dir, whose names begin with "./", with its owners as ids have them inside.
func Pack(ctx context.Context, ids IDs, dir string, tar io.Writer) error { return errNotYet }

// Copy copies the tree from to the new directory to. Files share their blocks where the file system can do that.
func Copy(ctx context.Context, ids IDs, from, to string) error { return errNotYet }

// Remove removes trees, with what ids own in them. It is no error where there is none. It follows no link.
func Remove(ctx context.Context, ids IDs, dirs ...string) error { return errNotYet }

// Sandbox is what Start made. Its methods may be called from several goroutines.
type Sandbox struct{}

// Start makes a sandbox; nothing runs in it yet but its pid 1. Everything in it ends with Close or with this process.
// The end of ctx after Start returned does nothing.
func Start(ctx context.Context, c Config) (*Sandbox, error) { return nil, errNotYet }

// Run starts a process: the first one and any further ones alike. The error of a program that is not there is
// fs.ErrNotExist, of one that may not be executed fs.ErrPermission, for errors.Is.
func (s *Sandbox) Run(p Process) (*Running, error) { return nil, errNotYet }

// KillAll kills all processes but pid 1, and returns when they are gone.
func (s *Sandbox) KillAll() error { return errNotYet }

// Unpack unpacks a plain tar in the directory dir of the sandbox, which must exist, its mounts included. It works while
// nothing runs and while something does.
func (s *Sandbox) Unpack(ctx context.Context, dir string, tar io.Reader) error { return errNotYet }

// Pack writes a tar of the file or directory at path in the sandbox. The names in it begin with path's last element.
// Only where there is nothing at path is the error fs.ErrNotExist. A symbolic link at path's end is packed as one.
func (s *Sandbox) Pack(ctx context.Context, path string, tar io.Writer) error { return errNotYet }

// Close kills everything in the sandbox, and returns when it is gone. A second call does nothing.
func (s *Sandbox) Close() error { return nil }

// Running is a process that Run started.
type Running struct {
	// PTY is the terminal's master, only with Process.TTY. Its size is set by ioctl on it. The caller closes it.
	PTY *os.File
}

// Wait returns the exit status of the process, 128+n where signal n ended it. The error is that of the sandbox, which
// ended before.
func (r *Running) Wait() (status int, err error) { return 0, errNotYet }

// Signal sends a signal to the process; to one that has ended it does nothing.
func (r *Running) Signal(sig os.Signal) error { return errNotYet }
