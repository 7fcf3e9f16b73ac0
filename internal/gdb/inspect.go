package gdb

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/kimg/kimg/internal/terminal"
)

// Frame is a function that was called and has not returned.
type Frame struct {
	Function string // empty where nothing is known of it
	File     string // in the kernel's tree; empty where there is no debug information
	Line     int
}

// Value is what gdb made of an expression, or why it refused to.
type Value struct{ Expr, Text, Err string }

// The name and the ID of the process that the processor runs, by the kernel's scripts.
const (
	taskComm = "$lx_current().comm"
	taskPID  = "$lx_current().pid"
)

// Task describes the process that the processor runs, as "cat (pid 312)"; empty early in the boot.
func (d *Debugger) Task(ctx context.Context) (string, error) {
	name, err := d.Evaluate(ctx, taskComm)
	if err != nil || name.Err != "" {
		return "", err
	}
	pid, err := d.Evaluate(ctx, taskPID)
	if err != nil || pid.Err != "" {
		return "", err
	}
	return taskName(name.Text, pid.Text), nil
}

// IsTask says whether the processor runs a process of that name whose ID is not below first.
func (d *Debugger) IsTask(ctx context.Context, name string, first int) (bool, error) {
	comm, err := d.Evaluate(ctx, taskComm)
	if err != nil || commName(comm.Text) != name {
		return false, err
	}
	text, err := d.Evaluate(ctx, taskPID)
	pid, _ := strconv.Atoi(text.Text)
	return pid >= first, err
}

// taskName makes a name of gdb's words for a comm and a pid.
func taskName(comm, pid string) string {
	name := commName(comm)
	if _, err := strconv.Atoi(pid); err != nil || name == "" {
		return ""
	}
	return fmt.Sprintf("%s (pid %s)", name, pid)
}

// commName reads a comm as gdb writes it, "cat" or "cat", '\000' <repeats 12 times>; empty where that is none.
func commName(said string) string {
	said, quoted := strings.CutPrefix(said, `"`)
	name, _, ended := strings.Cut(said, `"`)
	if !quoted || !ended {
		return ""
	}
	return terminal.Plain(name)
}

// maxFrames is how much of a stack is asked for.
const maxFrames = 64

// Frames are those of the stopped guest, the innermost first, with files relative to root (see SourceRoot).
func (d *Debugger) Frames(ctx context.Context, root string) ([]Frame, error) {
	data, _, err := d.do(ctx, fmt.Sprintf("-stack-list-frames 0 %d", maxFrames-1))
	if err != nil {
		return nil, fmt.Errorf("list the frames: %w", err)
	}
	stack, _ := data["stack"].([]any)
	var frames []Frame
	for _, v := range stack {
		frame, _ := v.(miTuple)
		frames = append(frames, frameOf(frame, root))
	}
	return frames, nil
}

// Backtrace is gdb's own list of the frames, in lines that are safe to print.
func (d *Debugger) Backtrace(ctx context.Context, root string) ([]string, error) {
	_, trace, err := d.do(ctx, fmt.Sprintf(`-interpreter-exec console "backtrace %d"`, maxFrames))
	if err != nil {
		return nil, fmt.Errorf("print the backtrace: %w", err)
	}
	if root != "" {
		trace = strings.ReplaceAll(trace, root, "")
	}
	var list []string
	for line := range strings.Lines(trace) {
		if line = strings.TrimRight(terminal.Plain(line), " "); line != "" {
			list = append(list, line)
		}
	}
	return list, nil
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

// maxValue bounds what is kept of a value, in bytes.
const maxValue = 64 << 10

// Evaluate has gdb evaluate an expression, which may begin with a format: /x flags. A refusal is in the value.
func (d *Debugger) Evaluate(ctx context.Context, expr string) (Value, error) {
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
	case strings.Contains(expr, "$_shell"): // a function of gdb's that runs a command where gdb runs
		return fmt.Errorf("%q: $_shell would leave the guest", expr)
	}
	return nil
}

// trimStop removes the full stop at the end of gdb's messages.
func trimStop(s string) string { return strings.TrimSuffix(s, ".") }

// StartKernel is a function that runs once, when the kernel has mapped itself.
const StartKernel = "start_kernel"

// breakRE is what gdb may be asked to stop at: no conditions, no commands.
var breakRE = regexp.MustCompile(`^([A-Za-z_][\w.$]*|\*0x[0-9A-Fa-f]{1,16}|[\w./+-]+:(\d{1,9}|[A-Za-z_][\w.$]*))$`)

// CheckBreak is an error for what no kernel can be stopped at.
func CheckBreak(at string) error {
	if !breakRE.MatchString(at) {
		return fmt.Errorf("%q: want a function, FILE:LINE, FILE:FUNCTION or *ADDRESS", at)
	}
	return nil
}

// Breakpoint is one that gdb has set.
type Breakpoint struct {
	Locations int // how many places of the kernel it is at

	number   string
	fullname string // of the first location's source
}

// Find looks for a place to stop at, else a *NoBreakError. The breakpoint that it returns is not kept.
func (d *Debugger) Find(ctx context.Context, kernel *Symbols, at string) (Breakpoint, error) {
	b, err := d.SetBreak(ctx, at, false)
	var refused *miError
	if errors.As(err, &refused) && strings.HasPrefix(refused.Msg, "No symbol table is loaded") {
		return b, fmt.Errorf("find %s: gdb could not read vmlinux", at) // which kernel had the symbols
	}
	if errors.As(err, &refused) {
		return b, kernel.noBreak(at, refused.Msg)
	}
	if err != nil {
		return b, err
	}
	return b, d.DeleteBreak(ctx, b)
}

// SetBreak sets a breakpoint, a hardware one where asked.
func (d *Debugger) SetBreak(ctx context.Context, at string, hardware bool) (Breakpoint, error) {
	command := "-break-insert "
	if hardware {
		command += "-h "
	}
	data, _, err := d.do(ctx, command+miQuote(at))
	if err != nil {
		return Breakpoint{}, err
	}
	bkpt, _ := data["bkpt"].(miTuple)
	b := Breakpoint{number: bkpt.text("number"), Locations: 1, fullname: bkpt.text("fullname")}
	if list, ok := bkpt["locations"].([]any); ok && len(list) > 0 {
		b.Locations = len(list)
		if first, ok := list[0].(miTuple); ok {
			b.fullname = first.text("fullname")
		}
	}
	return b, nil
}

// DeleteBreak removes a breakpoint.
func (d *Debugger) DeleteBreak(ctx context.Context, b Breakpoint) error {
	_, _, err := d.do(ctx, "-break-delete "+b.number)
	return err
}

// RunTo runs the guest to a new breakpoint, which is then removed.
func (d *Debugger) RunTo(ctx context.Context, at string, hardware bool) error {
	b, err := d.SetBreak(ctx, at, hardware)
	if err != nil {
		return fmt.Errorf("break at %s: %w", at, err)
	}
	var stop *Stop
	if err = d.Proceed(ctx); err == nil {
		stop, err = d.AwaitStop(ctx, nil)
	}
	if err == nil {
		err = b.HitBy(stop)
	}
	if err != nil {
		return fmt.Errorf("run to %s: %w", at, err)
	}
	return d.DeleteBreak(ctx, b)
}

// HitBy is an error where the guest stopped for another reason than the breakpoint.
func (b Breakpoint) HitBy(stop *Stop) error {
	if stop.reason == "breakpoint-hit" && stop.breakpoint == b.number {
		return nil
	}
	return fmt.Errorf("the guest stopped for another reason: %s", strings.TrimSpace(stop.reason+" "+stop.signal))
}

// SourceRoot is where the kernel's source was compiled, with a slash at its end; empty where gdb does not know.
func (d *Debugger) SourceRoot(ctx context.Context) string {
	b, err := d.SetBreak(ctx, StartKernel, false)
	if err != nil || d.DeleteBreak(ctx, b) != nil {
		return ""
	}
	root, ok := strings.CutSuffix(b.fullname, "init/main.c")
	if !ok {
		return ""
	}
	return root
}
