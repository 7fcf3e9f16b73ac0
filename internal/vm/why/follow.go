package why

import (
	"context"
	"fmt"
)

// The bounds of what is followed for one question.
const (
	maxHops   = 24 // moves from one place of a value to the one before
	maxWrites = 3  // of memory, one behind the other
)

// follow goes back along a value: from a register to memory, from there to who wrote it, and so on. It returns
// questions that came up.
func (t *tracer) follow(ctx context.Context, q question) (more []question, err error) {
	var loaded *Step // is told with who wrote it
	tell := func() {
		if loaded != nil {
			t.keep(*loaded)
			loaded = nil
		}
	}
	defer tell()
	writes := 0
	for range maxHops {
		if q.Reg != 0 {
			s, err := t.defined(ctx, q.Reg)
			if err != nil {
				return more, t.unless(ctx, err)
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
				return more, t.show(ctx, Step{Kind: stepKinds[s.how], What: saysOf(s.how, name(q.Reg))})
			}
			in, err := t.here(ctx)
			if err != nil {
				return more, t.unless(ctx, err)
			}
			at, err := t.address(ctx, s.mem, in)
			if err != nil {
				return more, t.unless(ctx, err)
			}
			size := power(fmt.Sprint(s.size))
			v, err := t.value(ctx, at, size)
			if err != nil {
				return more, t.unless(ctx, err)
			}
			step, err := t.step(ctx, Step{Kind: Loaded, What: fmt.Sprintf("%s was loaded from memory", name(q.Reg)),
				Address: number(at), Value: number(v)})
			if err != nil {
				return more, err
			}
			tell()
			loaded = &step
			if !isKernel(at) {
				return more, nil
			}
			q = question{What: "that", Address: at, Size: size, Writers: q.Writers}
		}
		w, err := t.written(ctx, q.Address, q.Size)
		if err != nil {
			return more, t.unless(ctx, err)
		}
		if w == nil {
			tell()
			return more, t.show(ctx, Step{Kind: Unknown, What: "nothing wrote it before: the guest began with it, " +
				"or a device wrote it", Address: number(q.Address)})
		}
		if w.spilled() { // the compiler's own, to free a register
			loaded, q.Reg = nil, w.from.reg
			continue
		}
		tell()
		if err := t.show(ctx, Step{Kind: Written, What: q.What + " was written here", Address: number(q.Address),
			Was: number(w.was), Value: number(w.is)}); err != nil {
			return more, err
		}
		if q.Writers > 1 {
			before := question{What: q.What, Address: q.Address, Size: q.Size, Writers: q.Writers - 1}
			if before.Icount, err = t.g.Icount(ctx); err != nil {
				return more, err
			}
			before.What = "before that it"
			more = append(more, before)
		}
		if writes++; writes >= maxWrites {
			return more, nil
		}
		switch w.from.how {
		case copies:
			q = question{Reg: w.from.reg, Writers: 1}
		case loads:
			at, err := t.address(ctx, w.from.mem, w.in)
			if err != nil || !isKernel(at) {
				return more, t.unless(ctx, err)
			}
			q = question{What: "what was copied", Address: at, Size: power(fmt.Sprint(w.from.size)), Writers: 1}
		default:
			return more, nil
		}
	}
	return more, nil
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
