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
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
)

// Container is a container that Create made. Its owner calls Remove. Its
// methods may be called from several goroutines once Start has returned.
type Container struct {
	ID string

	eng     *Engine
	cmd     *Cmd
	session *session      // set by Start
	exited  chan struct{} // closed once exit and err are set
	exit    ExitError
	err     error // why the status is not known

	mu      sync.Mutex
	removed bool
}

// Run creates a container for cmd, runs it to its end and removes it. A status
// other than zero is an *ExitError. The end of ctx kills the container at once.
func (e *Engine) Run(ctx context.Context, cmd *Cmd) (err error) {
	c, err := e.Create(ctx, cmd)
	if err != nil {
		return err
	}
	defer func() {
		if bad := c.Remove(ctx); bad != nil {
			err = errors.Join(err, bad)
		}
	}()
	if err := c.Start(ctx); err != nil {
		return err
	}
	return c.Wait()
}

// Create makes a container for cmd and does not start it: CopyIn and CopyOut
// work on it already, in the paths of its volumes too.
func (e *Engine) Create(ctx context.Context, cmd *Cmd) (*Container, error) {
	doing := "create container of " + cmd.Image
	cfg, host, err := config(cmd, self().String())
	if err == nil && e.info.Name == podman {
		forPodman(host, cmd.Mounts)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, fault(ctx, doing, err)
	}
	// Not stopped half way: an engine goes on with a request whose client has
	// gone away, and nobody would know the container's name.
	work, cancel := detached(ctx)
	defer cancel()
	name := newName()
	made, err := e.api.ContainerCreate(work, cfg, host, nil, nil, name)
	if err != nil {
		if work.Err() != nil {
			err = errors.Join(err, e.removeContainer(ctx, name))
		}
		return nil, fault(ctx, doing, err)
	}
	c := &Container{ID: made.ID, eng: e, cmd: cmd, exited: make(chan struct{})}
	if ctx.Err() != nil {
		return nil, errors.Join(fault(ctx, doing, ctx.Err()), c.Remove(ctx))
	}
	return c, nil
}

// CopyIn unpacks a tar, plain or compressed with gzip, in the directory dir,
// which must exist. The tar's owners and modes are kept.
func (c *Container) CopyIn(ctx context.Context, dir string, tar io.Reader) error {
	body := lend(tar)
	defer body.takeBack()
	// CopyUIDGID stays off: it would replace the tar's owners, and fails for user "0:0".
	err := c.eng.api.CopyToContainer(ctx, c.ID, dir, body, container.CopyToContainerOptions{})
	if bad := body.fault(); bad != nil && ctx.Err() == nil {
		err = bad // the engine only saw its end
	}
	return fault(ctx, "copy into "+dir, err)
}

// CopyOut returns a tar of the file or directory at path. The names in it begin
// with path's last element. The caller closes it.
func (c *Container) CopyOut(ctx context.Context, path string) (io.ReadCloser, error) {
	r, _, err := c.eng.api.CopyFromContainer(ctx, c.ID, path)
	if err != nil {
		return nil, fault(ctx, "copy out "+path, err)
	}
	return r, nil
}

// Start starts the command. The end of ctx kills it.
func (c *Container) Start(ctx context.Context) error {
	doing := "start " + c.cmd.Args[0]
	// Attached before it starts, so that no output is missed.
	conn, err := c.eng.api.ContainerAttach(ctx, c.ID, container.AttachOptions{
		Stream: true, Stdin: c.cmd.Stdin != nil, Stdout: true, Stderr: true, DetachKeys: detachKeys,
	})
	if err != nil {
		return fault(ctx, doing, err)
	}
	if err := c.eng.api.ContainerStart(ctx, c.ID, container.StartOptions{}); err != nil {
		conn.Close()
		return fault(ctx, doing, err)
	}
	go c.await(context.WithoutCancel(ctx))
	kill := func() {
		work, cancel := detached(ctx)
		defer cancel()
		// That it has ended already is the one error, and no news.
		c.eng.api.ContainerKill(work, c.ID, "SIGKILL")
	}
	c.session = converse(ctx, conn, streams{
		stdin: c.cmd.Stdin, stdout: c.cmd.Stdout, stderr: c.cmd.Stderr, tty: c.cmd.TTY,
		resize: c.cmd.Resize, setSize: c.resize,
	}, kill)
	return nil
}

// await asks for the exit status. It asks after the start and not before it: the
// container stays until Remove, so a status cannot be missed, and an engine that
// waits for "the next exit" by looking now and then can miss a short command.
func (c *Container) await(ctx context.Context) {
	defer close(c.exited)
	ended, failed := c.eng.api.ContainerWait(ctx, c.ID, container.WaitConditionNotRunning)
	select {
	case end := <-ended:
		c.exit.Code = int(end.StatusCode)
		if end.Error != nil && end.Error.Message != "" {
			c.err = errors.New(end.Error.Message)
		}
	case c.err = <-failed:
	}
	if c.exit.Code != 0 {
		is, err := c.eng.api.ContainerInspect(ctx, c.ID)
		c.exit.OOMKilled = err == nil && is.State != nil && is.State.OOMKilled
	}
}

func (c *Container) resize(ctx context.Context, to Winsize) error {
	return c.eng.api.ContainerResize(ctx, c.ID, container.ResizeOptions{Height: to.Rows, Width: to.Cols})
}

// Wait returns when the command has ended and all of its output has been
// written. A status other than zero is an *ExitError; an input or output of the
// caller's that fails, and the end of Start's context, kill the command and are
// the error instead.
func (c *Container) Wait() error {
	s := c.session
	if s == nil {
		return errors.New("wait for a container that was not started")
	}
	defer s.close()
	select {
	case <-c.exited:
		if s.from.late() {
			s.fail(errors.New("its output was not taken in time, and the engine dropped the rest"))
		}
	case <-s.failed:
		select {
		case <-c.exited:
		case <-time.After(cleanupTime): // an engine that does not answer any more
		}
	}
	if err := s.drain(); err != nil {
		return fmt.Errorf("run %s: %w", c.cmd.Args[0], err)
	}
	if c.err != nil {
		return fmt.Errorf("wait for %s: %w", c.cmd.Args[0], c.err)
	}
	if c.exit.Code == 0 {
		return nil
	}
	return &c.exit
}

// Signal sends a signal, such as "SIGTERM", to the container's command.
func (c *Container) Signal(ctx context.Context, sig string) error {
	return fault(ctx, "signal "+c.cmd.Args[0], c.eng.api.ContainerKill(ctx, c.ID, sig))
}

// Remove kills the command, if it runs, and removes the container. It works
// after the end of ctx too, and a second call does nothing.
func (c *Container) Remove(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed {
		return nil
	}
	if err := c.eng.removeContainer(ctx, c.ID); err != nil {
		return err
	}
	c.removed = true
	if c.session != nil {
		c.session.end(errRemoved) // for a Wait that is under way, or was never called
	}
	return nil
}

// removeContainer kills and removes a container; that there is none is no error.
// It returns when the container is gone, whoever removed it.
func (e *Engine) removeContainer(ctx context.Context, id string) error {
	work, cancel := detached(ctx)
	defer cancel()
	for {
		err := e.api.ContainerRemove(work, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
		switch {
		case err == nil || errdefs.IsNotFound(err):
			return nil
		case work.Err() != nil:
			return fmt.Errorf("remove container %s: %w", id, err)
		}
		// Being removed by another, or its layer is still in use for a moment.
		select {
		case <-time.After(100 * time.Millisecond):
		case <-work.Done():
			return fmt.Errorf("remove container %s: %w", id, err)
		}
	}
}
