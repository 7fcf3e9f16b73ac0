package why

import (
	"context"
	"fmt"

	"golang.org/x/arch/x86/x86asm"
)

// The bounds of what is followed for one question.
const (
	maxHops   = 24 // moves from one place of a value to the one before
	maxWrites = 3  // of memory, one behind the other
)

// follow goes back along a value: from a register to memory, and from there to who wrote it. It returns the questions
// that came up: where that one had it from, and who wrote there before.
func (t *tracer) follow(ctx context.Context, q question) (more []question, err error) {
	if q.Freed {
		return nil, t.freed(ctx, q)
	}
	var object []question // of the memory that it was loaded from
	defer func() {
		if err == nil {
			more = append(more, object...)
		}
	}()
	var loaded *Step // is told with who wrote it
	tell := func() {
		if loaded != nil {
			t.keep(*loaded)
			loaded = nil
		}
	}
	defer tell()
	for range maxHops {
		if q.Reg != 0 {
			s, err := t.defined(ctx, q.Reg)
			if err != nil {
				return nil, t.unless(ctx, err)
			}
			switch s.how {
			case copies:
				q.Reg = s.reg
				continue
			case keeps:
				continue
			case loads:
			default:
				tell()
				return nil, t.show(ctx, Step{Kind: stepKinds[s.how], What: saysOf(s.how, name(q.Reg))})
			}
			in, err := t.here(ctx)
			if err != nil {
				return nil, t.unless(ctx, err)
			}
			at, err := t.address(ctx, s.mem, in)
			if err != nil {
				return nil, t.unless(ctx, err)
			}
			size := power(fmt.Sprint(s.size))
			v, err := t.value(ctx, at, size)
			if err != nil {
				return nil, t.unless(ctx, err)
			}
			step, err := t.step(ctx, Step{Kind: Loaded, What: fmt.Sprintf("%s was loaded from memory", name(q.Reg)),
				Address: number(at), Value: number(v)})
			if err != nil {
				return nil, err
			}
			tell()
			loaded = &step
			if !isKernel(at) {
				return nil, nil
			}
			if q.Depth == 0 && object == nil {
				if object, err = t.askOfObject(ctx, at, s.mem); err != nil {
					return nil, err
				}
			}
			q = question{What: "that", Address: at, Size: size, Writers: q.Writers, Depth: q.Depth}
		}
		w, err := t.written(ctx, q.Address, q.Size, q.Skip)
		if err != nil {
			return nil, t.unless(ctx, err)
		}
		if w == nil {
			tell()
			return nil, t.show(ctx, Step{Kind: Unknown, What: "nothing wrote it before: the guest began with it, " +
				"or a device wrote it", Address: number(q.Address)})
		}
		if w.spilled() { // the compiler's own, to free a register
			loaded, q.Reg = nil, w.from.reg
			continue
		}
		tell()
		if err := t.show(ctx, Step{Kind: Written, What: q.What + " was written here", Address: number(q.Address),
			Was: number(w.was), Value: number(w.is)}); err != nil {
			return nil, err
		}
		return t.onward(ctx, q, w)
	}
	return nil, nil
}

// onward are the questions that follow from a write: where the value was had from, and who wrote there before.
func (t *tracer) onward(ctx context.Context, q question, w *wrote) (more []question, err error) {
	here, err := t.g.Icount(ctx)
	if err != nil {
		return nil, err
	}
	if from := (question{Icount: here, Writers: 1, Depth: q.Depth + 1}); !q.Before && from.Depth < maxWrites {
		switch w.from.how {
		case copies:
			from.What, from.Reg = "the value", w.from.reg
			more = append(more, from)
		case loads:
			at, err := t.address(ctx, w.from.mem, w.in)
			if fatal(ctx, err) {
				return nil, err
			}
			if err == nil && isKernel(at) {
				from.What, from.Address, from.Size = "what was copied", at, power(fmt.Sprint(w.from.size))
				more = append(more, from)
			}
		}
	}
	if q.Writers > 1 {
		before := question{Icount: here, What: "before that it", Address: q.Address, Size: q.Size,
			Writers: q.Writers - 1, Before: true}
		if elements[w.in.Op] > 0 {
			before.Skip = w.in.Address
		}
		more = append(more, before)
	}
	return more, nil
}

// askOfObject are questions about the allocator's object that a value is loaded from: it may have been freed, and the
// pointer to it be older than that.
func (t *tracer) askOfObject(ctx context.Context, at uint64, m x86asm.Mem) ([]question, error) {
	o, err := t.slabOf(ctx, at)
	if err != nil || o == nil {
		return nil, err
	}
	here, err := t.g.Icount(ctx)
	if err != nil {
		return nil, err
	}
	list := []question{{Icount: here, What: "when its memory was freed", Address: at, Freed: true}}
	if base := wide(m.Base); base != 0 && base != x86asm.RSP && base != x86asm.RBP {
		list = append(list, question{Icount: here, What: "the pointer to it", Reg: base, Writers: 1,
			Depth: maxWrites - 1}) // who allocated it is not followed through the allocator
	}
	return list, nil
}

// unless is an error that ends the search; others are the end of what can be followed.
func (t *tracer) unless(ctx context.Context, err error) error {
	if fatal(ctx, err) {
		return err
	}
	return nil
}

// saysOf is how a register got its value.
func saysOf(how origin, reg string) string {
	switch how {
	case constant:
		return reg + " got a constant here"
	case computes:
		return reg + " was computed here"
	}
	return reg + " came from where the kernel was entered"
}
