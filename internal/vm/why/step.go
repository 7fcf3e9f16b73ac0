package why

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// How much of a stack is shown, and of how many frames the variables.
const (
	maxFrames = 24
	maxLocals = 4
)

// show keeps a step of where the guest is.
func (t *tracer) show(ctx context.Context, s Step) error {
	step, err := t.step(ctx, s)
	if err == nil {
		t.keep(step)
	}
	return err
}

// step fills in where the guest is.
func (t *tracer) step(ctx context.Context, s Step) (_ Step, err error) {
	if s.Icount, err = t.g.Icount(ctx); err != nil {
		return s, err
	}
	if s.Address != "" && s.Symbol == "" {
		if s.Symbol, err = t.g.Symbol(ctx, hexadecimal(s.Address[2:])); err != nil && fatal(ctx, err) {
			return s, err
		}
	}
	s.Seconds = (time.Duration(s.Icount<<t.shift) * time.Nanosecond).Round(time.Microsecond).Seconds()
	if s.Icount == 0 { // nothing has run: there is neither a task nor a stack
		return s, nil
	}
	if s.Task, err = t.g.Task(ctx); err != nil {
		return s, err
	}
	if in, err := t.here(ctx); err == nil {
		s.Instruction = strings.Join(strings.Fields(in.Text), " ")
	} else if fatal(ctx, err) {
		return s, err
	}
	frames, err := t.g.Frames(ctx, t.root)
	if err != nil {
		return s, t.unless(ctx, err)
	}
	s.Frames = nil
	for i, f := range frames {
		if f.Function == "" || i == maxFrames { // user space, or what cannot be unwound
			break
		}
		frame := Frame{Function: f.Function, File: f.File, Line: f.Line}
		if i < maxLocals {
			if frame.Locals, err = t.g.Locals(ctx, i); err != nil && fatal(ctx, err) {
				return s, err
			}
		}
		s.Frames = append(s.Frames, frame)
	}
	return s, nil
}

// number is one as the kernel writes it.
func number(n uint64) string { return fmt.Sprintf("%#x", n) }
