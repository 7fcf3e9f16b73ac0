package vm

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"sync"

	"github.com/kimg/kimg/internal/gdb"
)

// commandEnd is how a command in the guest ended. The rest may be read once ended is closed.
type commandEnd struct {
	ended  chan struct{}
	status int
	err    error
}

// during boots the guest, has gdb set the breakpoint when the command is about to
// run, lets it run, and looks where it stopped.
//
// The command waits at a barrier of its own shell, so that the handful of processes by which the agent starts it
// have ended when gdb attaches. The agent still passes on the line that opens the barrier, and carries the streams:
// where that could be mistaken for the command, a check names the process (By).
func (k *checking) during(ctx context.Context) error {
	k.missing = "the guest did not come up"
	d, err := startGDB(ctx, k.vm.tools) // it has many symbols to read, while the guest boots
	if err != nil {
		return err
	}
	defer func() { k.result.Log = d.Transcript() }()
	place, root, err := k.find(ctx, d)
	if err != nil {
		return err
	}
	agent, ports, err := k.vm.agent(ctx)
	if err != nil {
		return err
	}
	defer closePorts(agent, ports)
	start := newBarrier(k.vm.o.Stdin, k.vm.o.Stdout)
	defer start.close()
	end := &commandEnd{ended: make(chan struct{})}
	go func() {
		defer close(end.ended)
		c := k.vm.command(k.c.Command)
		c.script, c.stdin, c.stdout = behindBarrier(k.c.Command), start, &start.out
		end.status, end.err = agent.run(ctx, c, ports)
	}()
	select {
	case <-start.reached:
	case <-end.ended:
		return k.unreached(end)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	k.first = start.out.pid
	b, err := k.arm(ctx, d, place)
	if err != nil {
		return err
	}
	start.open()
	k.missing = "the command did not reach " + k.place()
	reached, err := k.stop(ctx, d, b, end.ended)
	switch {
	case err != nil:
		return err
	case !reached:
		return k.unreached(end)
	}
	if err := k.look(ctx, d, b, root); err != nil {
		return err
	}
	k.missing = "the command did not end"
	select {
	case <-end.ended:
		k.result.Ran, k.result.Status = end.err == nil, end.status
		return end.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// arm stops the running guest for as long as it takes to set the breakpoint.
func (k *checking) arm(ctx context.Context, d *gdb.Debugger, place gdb.Breakpoint) (gdb.Breakpoint, error) {
	k.missing = "gdb did not set the breakpoint"
	if err := d.Attach(ctx, k.vm.tools.Socket(gdbSocket)); err != nil {
		return gdb.Breakpoint{}, err
	}
	b, err := d.SetBreak(ctx, k.c.Break, k.hardware(place))
	if err != nil {
		return b, fmt.Errorf("break at %s: %w", k.c.Break, err)
	}
	return b, d.Proceed(ctx)
}

// unreached is the error of a command that ended too early: a stop before would have been reported before.
func (k *checking) unreached(e *commandEnd) error {
	if e.err != nil {
		return e.err
	}
	k.result.Ran, k.result.Status = true, e.status
	return k.vm.hung(fmt.Sprintf("the command ended with status %d and did not reach %s", e.status, k.place()))
}

// command runs the check's command in a guest that boots on.
func (k *checking) command(ctx context.Context) error {
	k.missing = "the guest did not come up"
	agent, ports, err := k.vm.agent(ctx)
	if err != nil {
		return err
	}
	defer closePorts(agent, ports)
	k.missing = "the command did not end"
	k.result.Status, err = agent.run(ctx, k.vm.command(k.c.Command), ports)
	k.result.Ran = err == nil
	return err
}

// behindBarrier is a Script that first writes a line, its process ID, and reads one.
func behindBarrier(argv []string) string { return "echo $$; read -r _\n" + Script(argv) }

// barrier is the host's side of such a script's streams: the two lines are not the command's.
type barrier struct {
	reached chan struct{} // closed when the script has written its line
	opened  chan struct{}
	closed  chan struct{}
	once    sync.Once
	rest    io.Reader // what stdin has after the line
	out     barrierOutput
}

func newBarrier(stdin io.Reader, stdout io.Writer) *barrier {
	if stdin == nil {
		stdin = bytes.NewReader(nil)
	}
	if stdout == nil {
		stdout = io.Discard
	}
	b := &barrier{
		reached: make(chan struct{}), opened: make(chan struct{}), closed: make(chan struct{}), rest: stdin,
	}
	b.out = barrierOutput{b: b, to: stdout}
	return b
}

// open lets the script run its command.
func (b *barrier) open() { close(b.opened) }

// close ends a Read that waits.
func (b *barrier) close() { b.once.Do(func() { close(b.closed) }) }

// Read is the script's stdin. It waits until the barrier is opened.
func (b *barrier) Read(p []byte) (int, error) {
	if b.opened == nil {
		return b.rest.Read(p)
	}
	select {
	case <-b.opened:
		b.opened = nil
		return copy(p, "\n"), nil
	case <-b.closed:
		return 0, io.EOF
	}
}

// barrierOutput is the script's stdout.
type barrierOutput struct {
	b    *barrier
	to   io.Writer
	line []byte // the first one, as far as it was read
	said bool
	pid  int // in the first line; read it after b.reached
}

// maxPID is how much of the first line is kept: no process ID has as many digits.
const maxPID = 20

// Write passes on what comes after the first line.
func (o *barrierOutput) Write(p []byte) (int, error) {
	rest := p
	if !o.said {
		at := bytes.IndexByte(p, '\n')
		if at < 0 {
			o.line = append(o.line, p[:min(len(p), maxPID-len(o.line))]...)
			return len(p), nil
		}
		o.line = append(o.line, p[:min(at, maxPID-len(o.line))]...)
		if pid, err := strconv.Atoi(string(o.line)); err == nil { // a guest may write anything
			o.pid = pid
		}
		o.said, o.line, rest = true, nil, p[at+1:]
		close(o.b.reached)
	}
	if len(rest) > 0 {
		if _, err := o.to.Write(rest); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}
