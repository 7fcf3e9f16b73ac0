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

// commandEnd is how a command in the guest ended. The rest may be read once ended is
// closed.
type commandEnd struct {
	ended  chan struct{}
	status int
	err    error
}

// during boots the guest, has gdb set the breakpoint when the command is about to
// run, lets it run, and looks where it stopped.
//
// The command waits behind a gate of its own shell's, so that what the agent does
// to start it, which is a handful of processes, is over when gdb comes. The agent
// still hands on the word that opens the gate, and carries the streams: where that
// would be taken for the command's doing, a check names the process (By).
func (k *checking) during(ctx context.Context) error {
	k.missing = "the guest did not come up"
	d, err := startGDB(ctx, k.vm.tools) // it has long symbols to read, and the guest to boot
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
	g := newGate(k.vm.o.Stdin, k.vm.o.Stdout)
	defer g.close()
	end := &commandEnd{ended: make(chan struct{})}
	go func() {
		defer close(end.ended)
		c := k.vm.command(k.c.Command)
		c.script, c.stdin, c.stdout = gated(k.c.Command), g, &g.out
		end.status, end.err = agent.run(ctx, c, ports)
	}()
	select {
	case <-g.reached:
	case <-end.ended:
		return k.unreached(end)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	k.first = g.out.pid
	b, err := k.arm(ctx, d, place)
	if err != nil {
		return err
	}
	g.open()
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

// arm stops the guest, which runs, for as long as it takes to set the breakpoint.
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

// unreached tells of a command that ended too early. The guest stops as a whole, so
// a stop before the command's end would have been told before it.
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

// gated is a script that becomes the command argv, as Script's, but says its process
// id first, in a line, and waits for one.
func gated(argv []string) string { return "echo $$; read -r _\n" + Script(argv) }

// gate is the host's side of a gated script's stdin and stdout: the script's own
// line and the one that it waits for are not the command's.
type gate struct {
	reached chan struct{} // closed when the script has said its line
	opened  chan struct{}
	closed  chan struct{}
	once    sync.Once
	rest    io.Reader // what stdin has after the line
	out     gateOutput
}

func newGate(stdin io.Reader, stdout io.Writer) *gate {
	if stdin == nil {
		stdin = bytes.NewReader(nil)
	}
	if stdout == nil {
		stdout = io.Discard
	}
	g := &gate{reached: make(chan struct{}), opened: make(chan struct{}), closed: make(chan struct{}), rest: stdin}
	g.out = gateOutput{g: g, to: stdout}
	return g
}

// open lets the script run its command.
func (g *gate) open() { close(g.opened) }

// close ends a Read that waits.
func (g *gate) close() { g.once.Do(func() { close(g.closed) }) }

// Read is the script's stdin. It waits until the gate is opened.
func (g *gate) Read(p []byte) (int, error) {
	if g.opened == nil {
		return g.rest.Read(p)
	}
	select {
	case <-g.opened:
		g.opened = nil
		return copy(p, "\n"), nil
	case <-g.closed:
		return 0, io.EOF
	}
}

// gateOutput is the script's stdout.
type gateOutput struct {
	g    *gate
	to   io.Writer
	line []byte // the first one, as far as it has come
	said bool
	pid  int // that it says; read it after g.reached
}

// maxPID is how much of the first line is kept: no process id has as many digits.
const maxPID = 20

// Write passes on what comes after the first line.
func (o *gateOutput) Write(p []byte) (int, error) {
	rest := p
	if !o.said {
		at := bytes.IndexByte(p, '\n')
		if at < 0 {
			o.line = append(o.line, p[:min(len(p), maxPID-len(o.line))]...)
			return len(p), nil
		}
		o.line = append(o.line, p[:min(at, maxPID-len(o.line))]...)
		if pid, err := strconv.Atoi(string(o.line)); err == nil { // a guest may say anything
			o.pid = pid
		}
		o.said, o.line, rest = true, nil, p[at+1:]
		close(o.g.reached)
	}
	if len(rest) > 0 {
		if _, err := o.to.Write(rest); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}
