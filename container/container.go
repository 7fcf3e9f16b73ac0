// Package container is kimg's way to a container engine: it runs commands,
// copies files in and out, builds images and keeps volumes, through the Docker
// Engine API (Docker 20.10 and later, and Podman's service for it). It is the
// only importer of the Docker client. It must not know what the commands are
// for: nothing of kernels, suites or disk images.
//
// Whatever ends a command, the end of its context included, its container is
// killed and removed before the call returns. What a killed kimg leaves behind
// carries its owner's name, and the next one's Sweep removes it.
package container

import (
	"context"
	"io"
	"sync"
)

// Container is a container that Create made. Its owner calls Remove.
type Container struct {
	ID string

	eng     *Engine
	cmd     *Cmd
	removed sync.Once
}

// Run creates a container for cmd, runs it to its end and removes it. A status
// other than zero is an *ExitError. The end of ctx kills the container at once.
func (e *Engine) Run(ctx context.Context, cmd *Cmd) error { panic("todo") }

// Create makes a container for cmd and does not start it: CopyIn and CopyOut
// work on it already, in the paths of its volumes too.
func (e *Engine) Create(ctx context.Context, cmd *Cmd) (*Container, error) { panic("todo") }

// CopyIn unpacks a tar, plain or compressed with gzip, in the directory dir,
// which must exist. The tar's owners and modes are kept.
func (c *Container) CopyIn(ctx context.Context, dir string, tar io.Reader) error { panic("todo") }

// CopyOut returns a tar of the file or directory at path. The names in it begin
// with path's last element. The caller closes it.
func (c *Container) CopyOut(ctx context.Context, path string) (io.ReadCloser, error) { panic("todo") }

// Start starts the command. The end of ctx kills it.
func (c *Container) Start(ctx context.Context) error { panic("todo") }

// Wait returns when the command has ended and all of its output has been
// written. A status other than zero is an *ExitError.
func (c *Container) Wait() error { panic("todo") }

// Exec runs one more command in a container that runs, to its end.
func (c *Container) Exec(ctx context.Context, cmd *ExecCmd) error { panic("todo") }

// Signal sends a signal, such as "SIGTERM", to the container's command.
func (c *Container) Signal(ctx context.Context, sig string) error { panic("todo") }

// Remove kills the command, if it runs, and removes the container. It works
// after the end of ctx too, and a second call does nothing.
func (c *Container) Remove(ctx context.Context) error { panic("todo") }
