package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
)

// dockerContainer is a Container of Docker's.
type dockerContainer struct {
	id      string
	eng     *docker
	cmd     *Cmd
	session *session      // set by Start
	exited  chan struct{} // closed once exit and err are set
	exit    ExitError
	err     error // why the status is not known

	mu      sync.Mutex
	removed bool
}

func (e *docker) Create(ctx context.Context, cmd *Cmd) (Container, error) {
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
	// gone away, and the container's name would be lost.
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
	c := &dockerContainer{id: made.ID, eng: e, cmd: cmd, exited: make(chan struct{})}
	if ctx.Err() != nil {
		return nil, errors.Join(fault(ctx, doing, ctx.Err()), c.Remove(ctx))
	}
	return c, nil
}

func (c *dockerContainer) CopyIn(ctx context.Context, dir string, tar io.Reader) error {
	body := acquire(tar)
	defer body.release()
	// CopyUIDGID stays off: it would replace the tar's owners, and fails for user "0:0".
	err := c.eng.api.CopyToContainer(ctx, c.id, dir, body, container.CopyToContainerOptions{})
	if bad := body.fault(); bad != nil && ctx.Err() == nil {
		err = bad // the engine only saw its end
	}
	return fault(ctx, "copy into "+dir, err)
}

func (c *dockerContainer) CopyOut(ctx context.Context, path string) (io.ReadCloser, error) {
	r, _, err := c.eng.api.CopyFromContainer(ctx, c.id, path)
	if errdefs.IsNotFound(err) {
		// What was not found may be the container.
		if _, gone := c.eng.api.ContainerInspect(ctx, c.id); gone == nil {
			err = fmt.Errorf("%w (%w)", fs.ErrNotExist, err)
		}
	}
	if err != nil {
		return nil, fault(ctx, "copy out "+path, err)
	}
	return r, nil
}

func (c *dockerContainer) Start(ctx context.Context) error {
	doing := "start " + c.cmd.Args[0]
	// Attached before it starts, so that no output is missed.
	conn, err := c.eng.api.ContainerAttach(ctx, c.id, container.AttachOptions{
		Stream: true, Stdin: c.cmd.Stdin != nil, Stdout: true, Stderr: true, DetachKeys: detachKeys,
	})
	if err != nil {
		// Podman makes the container now, and Docker's client drops what it says against it: it says it once more.
		if why := c.eng.api.ContainerStart(ctx, c.id, container.StartOptions{}); why != nil {
			err = why
		}
		return fault(ctx, doing, err)
	}
	if err := c.eng.api.ContainerStart(ctx, c.id, container.StartOptions{}); err != nil {
		conn.Close()
		return fault(ctx, doing, err)
	}
	kill := func() {
		work, cancel := detached(ctx)
		defer cancel()
		// It fails only where the process has ended already.
		c.eng.api.ContainerKill(work, c.id, "SIGKILL")
	}
	c.session = converse(ctx, conn, streams{
		stdin: c.cmd.Stdin, stdout: c.cmd.Stdout, stderr: c.cmd.Stderr, tty: c.cmd.TTY,
		resize: c.cmd.Resize, setSize: c.resize,
	}, kill)
	go func() {
		if c.eng.info.Name == podman {
			// While it is asked, Podman 4.3 looks for the end without a pause, which takes half a processor.
			select {
			case <-c.session.output:
			case <-c.session.failed:
			}
		}
		c.await(context.WithoutCancel(ctx))
	}()
	return nil
}

// await asks for the exit status. It asks after the start and not before it: the
// container stays until Remove, so a status cannot be missed, and an engine that
// waits for "the next exit" by looking now and then can miss a short command.
func (c *dockerContainer) await(ctx context.Context) {
	defer close(c.exited)
	ended, failed := c.eng.api.ContainerWait(ctx, c.id, container.WaitConditionNotRunning)
	select {
	case end := <-ended:
		c.exit.Code = int(end.StatusCode)
		if end.Error != nil && end.Error.Message != "" {
			c.err = errors.New(end.Error.Message)
		}
	case c.err = <-failed:
	}
	if c.exit.Code != 0 {
		is, err := c.eng.api.ContainerInspect(ctx, c.id)
		c.exit.OOMKilled = err == nil && is.State != nil && is.State.OOMKilled
	}
}

func (c *dockerContainer) resize(ctx context.Context, to Winsize) error {
	return c.eng.api.ContainerResize(ctx, c.id, container.ResizeOptions{Height: to.Rows, Width: to.Cols})
}

func (c *dockerContainer) Wait() error {
	s := c.session
	if s == nil {
		return errors.New("wait for a container that was not started")
	}
	defer s.close()
	select {
	case <-c.exited:
		if s.from.late() {
			s.fail(errors.New("output was read too slowly; the engine dropped the rest"))
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

func (c *dockerContainer) Remove(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed {
		return nil
	}
	if err := c.eng.removeContainer(ctx, c.id); err != nil {
		return err
	}
	c.removed = true
	if c.session != nil {
		c.session.end(errRemoved) // for a Wait that is under way, or was never called
	}
	return nil
}

// removeContainer kills and removes a container. It returns when the container is
// gone, also where another removed it or it did not exist.
func (e *docker) removeContainer(ctx context.Context, id string) error {
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

// execDetachKeys is detachKeys for a request whose body is JSON, which cannot carry bytes that are not UTF-8.
const execDetachKeys = "ctrl-@,ctrl-@,ctrl-@,ctrl-@,ctrl-@,ctrl-@,ctrl-@,ctrl-@"

// Exec cannot kill the command at the end of ctx: engines have no way to do it.
func (c *dockerContainer) Exec(ctx context.Context, cmd *ExecCmd) error {
	if len(cmd.Args) == 0 {
		return errors.New("exec: a command needs arguments")
	}
	doing := "exec " + cmd.Args[0]
	made, err := c.eng.api.ContainerExecCreate(ctx, c.id, container.ExecOptions{
		Cmd: cmd.Args, Env: cmd.Env, User: cmd.User, WorkingDir: cmd.Dir, Tty: cmd.TTY,
		AttachStdin: cmd.Stdin != nil, AttachStdout: true, AttachStderr: !cmd.TTY,
		DetachKeys: execDetachKeys,
	})
	if err != nil {
		return fault(ctx, doing, err)
	}
	conn, err := c.eng.api.ContainerExecAttach(ctx, made.ID, container.ExecAttachOptions{Tty: cmd.TTY})
	if err != nil {
		return fault(ctx, doing, err)
	}
	s := converse(ctx, conn, streams{
		stdin: cmd.Stdin, stdout: cmd.Stdout, stderr: cmd.Stderr, tty: cmd.TTY, resize: cmd.Resize,
		setSize: func(ctx context.Context, to Winsize) error {
			return c.eng.api.ContainerExecResize(ctx, made.ID, container.ResizeOptions{Height: to.Rows, Width: to.Cols})
		},
	}, func() {})
	defer s.close()
	if err := s.drain(); err != nil {
		return fault(ctx, doing, err)
	}
	for {
		is, err := c.eng.api.ContainerExecInspect(ctx, made.ID)
		switch {
		case err != nil:
			return fault(ctx, doing, err)
		case !is.Running && is.ExitCode != 0:
			return &ExitError{Code: is.ExitCode}
		case !is.Running:
			return nil
		}
		// Its output has ended, and the engine has yet to reap it.
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fault(ctx, doing, ctx.Err())
		}
	}
}
