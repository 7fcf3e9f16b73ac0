// Package container runs commands in containers. Begin with [Connect], which finds an engine, and [Run], which runs
// one command to its end:
//
//	eng, err := container.Connect(ctx)
//	...
//	err = container.Run(ctx, eng, &container.Cmd{Image: "busybox", Args: []string{"uname", "-r"}, Stdout: os.Stdout})
//
// [Cmd] is to a container what exec.Cmd is to a process of this machine; what it does not ask for it does not get: no
// network, no capabilities, no new privileges. [Engine.Create] gives a [Container] for what Run does not do: copying
// files in and out, and running more commands beside the first one.
//
// An Engine is an interface. One speaks the Docker Engine API (Docker 20.10 and later, and Podman's service for it),
// and this package alone imports Docker's client. [Embedded] is part of the program and needs no daemon.
//
// Whatever ends a command, the end of its context included, its container is killed and removed before the call
// returns. What a killed process leaves behind carries its owner's name, and [Engine.Sweep] of another removes it.
package container

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Engine is a container engine that answered. Its methods may be called from several goroutines. An error of a call
// whose context ended is that context's, for errors.Is; a full disk of the engine's is ErrNoSpace.
type Engine interface {
	// Info returns what the engine said about itself when it was connected to.
	Info() Info
	// Close releases the connections.
	Close() error

	// Create makes a container for cmd and does not start it: CopyIn and CopyOut work on it already, in the paths
	// of its volumes too.
	Create(ctx context.Context, cmd *Cmd) (Container, error)

	// ImageID returns the id of the image that ref names; ok is false when there is none.
	ImageID(ctx context.Context, ref string) (id string, ok bool, err error)
	// Import makes an image of one layer from a tar of a root filesystem.
	Import(ctx context.Context, ref string, tar io.Reader) error
	// Build makes an image from a Dockerfile. No stage has a network. A build that fails or is cancelled leaves no
	// container behind, and no image; but Podman lets the step that runs when it is cancelled come to its end.
	Build(ctx context.Context, spec BuildSpec) error
	// RemoveImage removes a tag, and the image when that was its last, even after the end of ctx. It is no error if
	// there is none.
	RemoveImage(ctx context.Context, ref string) error

	// EnsureVolume makes the named volume unless it exists. A durable one stays until RemoveVolume; any other
	// belongs to this process, and Sweep removes it once the process has ended.
	EnsureVolume(ctx context.Context, name string, durable bool) error
	// VolumeExists reports whether there is such a volume.
	VolumeExists(ctx context.Context, name string) (bool, error)
	// RemoveVolume removes a volume, even after the end of ctx. It is no error if there is none.
	RemoveVolume(ctx context.Context, name string) error

	// Kept lists kimg's durable volumes and its images. It may take seconds: the engine measures them.
	Kept(ctx context.Context) ([]Kept, error)

	// Sweep removes the containers and temporary volumes of processes of this machine that have ended. Durable
	// volumes and what belongs to other machines stay.
	Sweep(ctx context.Context) error
}

// Container is a container that Create made. Its owner calls Remove. Its methods may be called from several
// goroutines once Start has returned.
type Container interface {
	// CopyIn unpacks a tar, plain or compressed with gzip, in the directory dir, which must exist. The tar's owners
	// and modes are kept.
	CopyIn(ctx context.Context, dir string, tar io.Reader) error
	// CopyOut returns a tar of the file or directory at path. The names in it begin with path's last element. The
	// caller closes it. Only where the container has nothing at path is the error an fs.ErrNotExist.
	CopyOut(ctx context.Context, path string) (io.ReadCloser, error)

	// Start starts the command. The end of ctx kills it.
	Start(ctx context.Context) error
	// Wait returns when the command has ended and all of its output has been written. A status other than zero is
	// an *ExitError. An input or output of the caller's that fails, and the end of Start's context, kill the command
	// and are the error instead.
	Wait() error
	// Exec runs one more command in a container that runs, to its end. A status other than zero is an *ExitError.
	// The end of ctx closes its streams and returns; the command itself ends with its container at the latest.
	Exec(ctx context.Context, cmd *ExecCmd) error
	// Remove kills the command if it runs, and removes the container, even after the end of ctx. A second call does
	// nothing.
	Remove(ctx context.Context) error
}

// Info is what an engine says about itself.
type Info struct {
	Name       string // "docker" or "podman"
	Version    string
	APIVersion string // the version that was negotiated
	Host       string // the address it was reached at, such as unix:///var/run/docker.sock
	Rootless   bool   // it runs as the user, who is root in its containers
	IDs        int    // how many users its containers have, where the engine knows; 1: it answers for the others itself
	Remapped   bool   // it runs as root, but root in its containers is nobody of its machine's (userns-remap)
	Arch       string // of its machine, in the words of GOARCH: "amd64"; "" if it does not say
	Local      bool   // it runs on this very machine, not in a virtual one or elsewhere: bind mounts name its files
	CPUs       int
	Memory     int64 // bytes
	Warnings   []string
}

// Rights says in words whose rights the engine has.
func (i Info) Rights() string {
	switch {
	case i.IDs == 1:
		return "rootless, one user id"
	case i.IDs > 1:
		return fmt.Sprintf("rootless, %d user ids", i.IDs)
	case i.Rootless:
		return "rootless"
	case i.Remapped:
		return "as root, users remapped"
	}
	return "as root"
}

// Users says in words who the users of its containers are on its machine.
func (i Info) Users() string {
	switch {
	case i.Rootless:
		return "in a user namespace: root is the user who runs the engine"
	case i.Remapped:
		return "in a user namespace: root is an unprivileged user"
	}
	return "the machine's own: root is root, with the capabilities of each step"
}

// Kept is a durable volume or an image of kimg's.
type Kept struct {
	Image   bool
	Name    string // an image has one Kept for each of its tags; without tags it is its id
	Size    int64  // bytes, without what an image shares with others; -1: the engine does not say
	Shared  int64  // bytes that other images have too
	Created time.Time
	InUse   bool // a container has it
}

// Run creates a container for cmd, runs it to its end and removes it. A status other than zero is an *ExitError. The
// end of ctx kills the container at once.
func Run(ctx context.Context, eng Engine, cmd *Cmd) (err error) {
	c, err := eng.Create(ctx, cmd)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Remove(ctx)) }()
	if err := c.Start(ctx); err != nil {
		return err
	}
	return c.Wait()
}

// TempVolume makes a volume with a name of its own. The caller removes it.
func TempVolume(ctx context.Context, eng Engine) (string, error) {
	name := newName()
	if err := eng.EnsureVolume(ctx, name, false); err != nil {
		return "", errors.Join(err, eng.RemoveVolume(ctx, name))
	}
	return name, nil
}

// newName returns a name that nothing else has.
func newName() string { return "kimg-" + strings.ToLower(rand.Text()[:12]) }
