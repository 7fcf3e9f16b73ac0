package gdb

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

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

// NoBreakError says that this kernel has no such place to stop at.
type NoBreakError struct {
	Break    string
	Near     []string // names that it does have
	Msg      string   // gdb's message
	Expected bool     // a stop is expected there, not requested
}

func (e *NoBreakError) Error() string {
	verb := "break at"
	if e.Expected {
		verb = "expect"
	}
	return fmt.Sprintf("%s %s: %s", verb, e.Break, trimStop(e.Msg))
}

func (e *NoBreakError) Hint() string {
	if len(e.Near) == 0 {
		return ""
	}
	return "this kernel has " + strings.Join(e.Near, ", ")
}

// Breakpoint is one that gdb has set.
type Breakpoint struct {
	Locations int // how many places of the kernel it is at

	number   string
	fullname string // of the first location's source
}

// Find looks for a place to stop at, which may not be there: then the error is a
// *NoBreakError. The breakpoint that it returns is not kept.
func (d *Debugger) Find(ctx context.Context, kernel *Symbols, at string) (Breakpoint, error) {
	b, err := d.SetBreak(ctx, at, false)
	var refused *miError
	if errors.As(err, &refused) && strings.HasPrefix(refused.Msg, "No symbol table is loaded") {
		return b, fmt.Errorf("find %s: gdb could not read vmlinux", at) // which kernel had the symbols
	}
	if errors.As(err, &refused) {
		return b, &NoBreakError{Break: at, Near: kernel.Near(at), Msg: refused.Msg}
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

// SourceRoot is where the kernel's source was when it was compiled, with a slash at
// its end; empty where gdb does not know.
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
