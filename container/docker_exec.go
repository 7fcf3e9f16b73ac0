package container

import (
	"context"
	"errors"
	"time"

	"github.com/docker/docker/api/types/container"
)

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
