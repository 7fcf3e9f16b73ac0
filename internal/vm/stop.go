package vm

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/terminal"
)

// kvmBreaks is how many hardware breakpoints an x86 processor has.
const kvmBreaks = 4

// early is a function that runs once, when the kernel has mapped itself.
const early = "start_kernel"

// maxFrames is how much of a backtrace is asked for.
const maxFrames = 64

// atBoot lets the halted guest run to the check's breakpoint and then lets it go.
func (k *checking) atBoot(ctx context.Context) error {
	k.missing = "the guest did not reach " + k.place()
	came := make(chan error, 1)
	go func() { came <- k.m.awaitGDB(ctx, k.entry) }()
	d, err := startGDB(ctx, k.m.site)
	if err != nil {
		return err
	}
	defer func() { k.result.Log = d.transcript() }()
	// Asked for before there is a guest: gdb answers for itself what it knows.
	place, root, err := k.find(ctx, d)
	if err != nil {
		return err
	}
	if err := <-came; err != nil {
		return err
	}
	if err := d.attach(ctx, k.m.site.Socket(gdbSocket)); err != nil {
		return err
	}
	// A software breakpoint is an instruction in memory, where the kernel has yet to
	// be unpacked. Under KVM there are only so many of the other kind; more places,
	// as an inlined function has, get instructions once the kernel is there.
	hardware := k.hardware(place)
	if !hardware {
		if err := d.runTo(ctx, early, true); err != nil {
			return err
		}
	}
	b, err := d.setBreak(ctx, k.c.Break, hardware)
	if err != nil {
		return fmt.Errorf("break at %s: %w", k.c.Break, err)
	}
	if err := d.proceed(ctx); err != nil {
		return err
	}
	if _, err := k.stop(ctx, d, b, nil); err != nil {
		return err
	}
	return k.look(ctx, d, b, root)
}

// stop waits until the guest stops at the breakpoint, or the command ends that should
// make it. Where it is for one process alone, all others go on.
func (k *checking) stop(ctx context.Context, d *debugger, b breakpoint, ended <-chan commandEnd) (*commandEnd, error) {
	for {
		stopped, e, err := d.awaitStop(ctx, ended)
		if err != nil || e != nil {
			return e, err
		}
		if err := b.hitBy(stopped); err != nil {
			return nil, fmt.Errorf("run to %s: %w", k.c.Break, err)
		}
		if is, err := k.isBy(ctx, d); is || err != nil {
			return nil, err
		}
		if err := d.proceed(ctx); err != nil {
			return nil, err
		}
	}
}

// isBy says whether the process that stopped is the one that is to. The agent has
// processes called cat of its own; they are older than the command.
func (k *checking) isBy(ctx context.Context, d *debugger) (bool, error) {
	if k.c.By == "" {
		return true, nil
	}
	comm, err := d.evaluate(ctx, taskComm)
	if err != nil || commName(comm.Text) != k.c.By {
		return false, err
	}
	text, err := d.evaluate(ctx, taskPID)
	pid, _ := strconv.Atoi(text.Text)
	return pid >= k.first, err
}

// place is where the guest must stop.
func (k *checking) place() string {
	if k.c.By == "" {
		return k.c.Break
	}
	return k.c.Break + " by " + k.c.By
}

// find finds the check's breakpoint, and where the kernel's source was when it was
// compiled.
func (k *checking) find(ctx context.Context, d *debugger) (b breakpoint, root string, err error) {
	if b, err = d.find(ctx, k.kernel, k.c.Break); err != nil {
		return b, "", err
	}
	return b, d.sourceRoot(ctx), nil
}

// hardware says whether the processor has breakpoints enough for the place.
func (k *checking) hardware(b breakpoint) bool {
	return k.m.site.Accel != qemu.KVM || b.Locations <= kvmBreaks
}

// look notes where the guest has stopped, evaluates the check's expressions there,
// and lets the guest go.
func (k *checking) look(ctx context.Context, d *debugger, b breakpoint, root string) error {
	k.missing = "gdb did not tell of the stop in " + k.c.Break
	if err := d.deleteBreak(ctx, b); err != nil {
		return err
	}
	r := k.result
	r.Hit = true
	data, _, err := d.do(ctx, fmt.Sprintf("-stack-list-frames 0 %d", maxFrames-1))
	if err != nil {
		return fmt.Errorf("list the frames: %w", err)
	}
	stack, _ := data["stack"].([]any)
	for _, v := range stack {
		frame, _ := v.(miTuple)
		r.Frames = append(r.Frames, frameOf(frame, root))
	}
	_, trace, err := d.do(ctx, fmt.Sprintf(`-interpreter-exec console "backtrace %d"`, maxFrames))
	if err != nil {
		return fmt.Errorf("print the backtrace: %w", err)
	}
	for line := range strings.Lines(withoutRoot(trace, root)) {
		if line = strings.TrimRight(terminal.Plain(line), " "); line != "" {
			r.Backtrace = append(r.Backtrace, line)
		}
	}
	if r.Task, err = k.task(ctx, d); err != nil {
		return err
	}
	for _, expr := range k.c.Print {
		v, err := d.evaluate(ctx, expr)
		if err != nil {
			return err
		}
		r.Values = append(r.Values, v)
	}
	if _, _, err := d.do(ctx, "-target-detach"); err != nil {
		return err
	}
	_, _, err = d.do(ctx, "-gdb-exit")
	return err
}

// task tells of the process that the processor is at, where the kernel's scripts
// know: early in the boot there is none.
func (k *checking) task(ctx context.Context, d *debugger) (string, error) {
	if !k.scripts {
		return "", nil
	}
	name, err := d.evaluate(ctx, taskComm)
	if err != nil || name.Err != "" {
		return "", err
	}
	pid, err := d.evaluate(ctx, taskPID)
	if err != nil || pid.Err != "" {
		return "", err
	}
	return taskName(name.Text, pid.Text), nil
}

// taskComm and taskPID are the name and the id of the process that the processor is
// at, by the kernel's scripts.
const (
	taskComm = "$lx_current().comm"
	taskPID  = "$lx_current().pid"
)

// taskName makes a name of gdb's words for a comm and a pid.
func taskName(comm, pid string) string {
	name := commName(comm)
	if _, err := strconv.Atoi(pid); err != nil || name == "" {
		return ""
	}
	return fmt.Sprintf("%s (pid %s)", name, pid)
}

// commName reads a comm as gdb writes it, "cat" or "cat", '\000' <repeats 12 times>;
// empty where that is none.
func commName(said string) string {
	said, quoted := strings.CutPrefix(said, `"`)
	name, _, ended := strings.Cut(said, `"`)
	if !quoted || !ended {
		return ""
	}
	return terminal.Plain(name)
}

// frameOf reads a frame of GDB/MI's.
func frameOf(frame miTuple, root string) Frame {
	file := frame.text("file") // a header that the build made is relative: it is not in the source
	if path.IsAbs(file) || file == "" {
		file = strings.TrimPrefix(frame.text("fullname"), root)
	}
	f := Frame{Function: terminal.Plain(frame.text("func"))}
	if file != "" {
		f.File = terminal.Plain(path.Clean(file))
	}
	if f.Function == "??" {
		f.Function = ""
	}
	f.Line, _ = strconv.Atoi(frame.text("line")) // none: zero
	return f
}

func withoutRoot(text, root string) string {
	if root == "" {
		return text
	}
	return strings.ReplaceAll(text, root, "")
}

// maxValue bounds what is kept of a value, in bytes.
const maxValue = 64 << 10

// evaluate has gdb evaluate an expression, which may begin with a format, as in
// /x flags. What gdb refuses is in the value.
func (d *debugger) evaluate(ctx context.Context, expr string) (Value, error) {
	command := "output " + expr
	if strings.HasPrefix(expr, "/") {
		command = "output" + expr
	}
	_, said, err := d.do(ctx, "-interpreter-exec console "+miQuote(command))
	var refused *miError
	if errors.As(err, &refused) {
		return Value{Expr: expr, Err: trimStop(refused.Msg)}, nil
	}
	if len(said) > maxValue {
		said = said[:maxValue] + "..."
	}
	return Value{Expr: expr, Text: strings.TrimRight(said, "\n")}, err
}

// CheckExpression is an error for an expression that cannot be handed to gdb.
func CheckExpression(expr string) error {
	switch {
	case strings.TrimSpace(expr) == "":
		return fmt.Errorf("%q: want an expression", expr)
	case strings.ContainsAny(expr, "\n\r\x00"):
		return fmt.Errorf("%q: want one line", expr)
	case strings.Contains(expr, "$_shell"): // a function of gdb's that runs a command where gdb does
		return fmt.Errorf("%q: $_shell would leave the guest", expr)
	}
	return nil
}

// runTo runs the guest to a new breakpoint, which is then removed.
func (d *debugger) runTo(ctx context.Context, at string, hardware bool) error {
	b, err := d.setBreak(ctx, at, hardware)
	if err != nil {
		return fmt.Errorf("break at %s: %w", at, err)
	}
	stopped, err := d.resume(ctx)
	if err != nil {
		return fmt.Errorf("run to %s: %w", at, err)
	}
	if err := b.hitBy(stopped); err != nil {
		return fmt.Errorf("run to %s: %w", at, err)
	}
	return d.deleteBreak(ctx, b)
}

// hitBy is an error where the guest stopped for another reason.
func (b breakpoint) hitBy(stopped miTuple) error {
	if stopped.text("reason") == "breakpoint-hit" && stopped.text("bkptno") == b.Number {
		return nil
	}
	return fmt.Errorf("the guest stopped for another reason: %s",
		strings.TrimSpace(stopped.text("reason")+" "+stopped.text("signal-meaning")))
}

// sourceRoot is where the kernel's source was when it was compiled, with a
// slash; empty when gdb does not say.
func (d *debugger) sourceRoot(ctx context.Context) string {
	b, err := d.setBreak(ctx, early, false)
	if err != nil || d.deleteBreak(ctx, b) != nil {
		return ""
	}
	root, ok := strings.CutSuffix(b.Fullname, "init/main.c")
	if !ok {
		return ""
	}
	return root
}

// trimStop takes away the full stop that gdb ends its words with.
func trimStop(s string) string { return strings.TrimSuffix(s, ".") }
