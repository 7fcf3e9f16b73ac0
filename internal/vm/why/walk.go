package why

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kimg/kimg/internal/gdb"
	"github.com/kimg/kimg/internal/splat"
	"github.com/kimg/kimg/internal/vm/replay"
	"golang.org/x/arch/x86/x86asm"
)

// tracer goes through a recording.
type tracer struct {
	g     *replay.Stage
	root  string // of the kernel's source, as gdb names it
	shift int    // an instruction has 2^shift ns
	keep  func(Step)
}

// fatal says whether an error ends the search: gdb or QEMU is gone, the replay has left its recording, or time is up.
// Others are answers: what is asked for is not there.
func fatal(ctx context.Context, err error) bool {
	var ended *gdb.EndedError
	var diverged *replay.DivergedError
	return ctx.Err() != nil || errors.As(err, &ended) || errors.As(err, &diverged)
}

// insn is an instruction of a function.
type insn struct {
	gdb.Instruction
	x86asm.Inst // of Op 0 where it cannot be read
}

func (i insn) behind() uint64 { return i.Address + uint64(len(i.Code)) }

func read(i gdb.Instruction) insn {
	in, err := x86asm.Decode(i.Code, 64)
	if err != nil {
		in = x86asm.Inst{Len: len(i.Code)}
	}
	return insn{i, in}
}

// function is one with all its parts: what a compiler has moved away is called NAME.cold.
type function struct {
	name  string
	entry uint64
	code  []insn // of the first part, then of the others
}

// at is the index of the instruction at an address; -1: there is none.
func (f *function) at(address uint64) int {
	return slices.IndexFunc(f.code, func(i insn) bool { return i.Address == address })
}

// callBefore is the call that returns to an address; nil: there is none.
func (f *function) callBefore(address uint64) *insn {
	i := slices.IndexFunc(f.code, func(i insn) bool { return i.behind() == address && i.Op == x86asm.CALL })
	if i < 0 {
		return nil
	}
	return &f.code[i]
}

func (t *tracer) function(ctx context.Context, at uint64) (*function, error) {
	name, list, err := t.g.Disassemble(ctx, at)
	if err != nil {
		return nil, err
	}
	f := &function{name: name, entry: list[0].Address}
	add := func(list []gdb.Instruction) {
		for _, i := range list {
			if f.at(i.Address) < 0 {
				f.code = append(f.code, read(i))
			}
		}
	}
	add(list)
	base := splat.BaseName(name)
	for _, other := range []string{base, base + ".cold"} {
		address, err := t.g.Number(ctx, "&'"+other+"'")
		if fatal(ctx, err) {
			return nil, err
		}
		if err != nil || f.at(address) >= 0 {
			continue
		}
		if _, list, err = t.g.Disassemble(ctx, address); err != nil {
			continue
		}
		add(list)
		if other == base {
			f.entry = list[0].Address
		}
	}
	return f, nil
}

func (t *tracer) register(ctx context.Context, r x86asm.Reg) (uint64, error) {
	return t.g.Number(ctx, "$"+strings.ToLower(r.String()))
}

// address is where an operand of the instruction that is next is in memory.
func (t *tracer) address(ctx context.Context, m x86asm.Mem, i insn) (uint64, error) {
	at := uint64(m.Disp)
	add := func(r x86asm.Reg, scale uint64) error {
		switch r {
		case 0:
			return nil
		case x86asm.RIP:
			at += i.behind()
			return nil
		}
		v, err := t.register(ctx, r)
		at += v * scale
		return err
	}
	err := errors.Join(add(m.Base, 1), add(m.Index, uint64(m.Scale)))
	if m.Segment == x86asm.GS || m.Segment == x86asm.FS {
		base, bad := t.g.Number(ctx, "$"+strings.ToLower(m.Segment.String())+"_base")
		at, err = at+base, errors.Join(err, bad)
	}
	return at, err
}

// here is the instruction that is next.
func (t *tracer) here(ctx context.Context) (insn, error) {
	pc, err := t.g.Number(ctx, "$rip")
	if err != nil {
		return insn{}, err
	}
	_, list, err := t.g.Disassemble(ctx, pc)
	if err != nil {
		return insn{}, err
	}
	for _, i := range list {
		if i.Address == pc {
			return read(i), nil
		}
	}
	return insn{}, fmt.Errorf("disassemble %#x: no instruction begins there", pc)
}

// value reads a number from memory.
func (t *tracer) value(ctx context.Context, address uint64, size int) (uint64, error) {
	b, err := t.g.Memory(ctx, address, size)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(append(b, make([]byte, 8)...)), nil
}

// isKernel says whether an address is one of the kernel's half.
func isKernel(address uint64) bool { return address >= 0xffff800000000000 }

// maxStack is more than a kernel's stack has, in bytes.
const maxStack = 32 << 10

// maxOthers is how often a stop in another call of a function is passed over.
const maxOthers = 8

// backTo runs back to the last of some places that was passed by this call of the function, or anyhow with any set.
// It returns 0 where there was none.
func (t *tracer) backTo(ctx context.Context, places []uint64, any bool) (pc uint64, err error) {
	sp, err := t.g.Number(ctx, "$rsp")
	if err != nil {
		return 0, err
	}
	in, err := t.here(ctx)
	if fatal(ctx, err) {
		return 0, err
	}
	// The stack grows down: what this call has called is below it, and another task's stack is far away. A function
	// that is about to return has left its own.
	own := func(now uint64) bool { return now >= sp && now-sp < maxStack }
	if in.Op == x86asm.RET || in.Op == x86asm.JMP {
		own = func(now uint64) bool { return max(now, sp)-min(now, sp) < maxStack/2 }
	}
	var set []gdb.Breakpoint
	defer func() { err = errors.Join(err, t.drop(ctx, set...)) }()
	for _, p := range places {
		b, err := t.g.SetBreak(ctx, fmt.Sprintf("*%#x", p), true)
		if err != nil {
			return 0, err
		}
		set = append(set, b)
	}
	for range maxOthers {
		there := func() (bool, error) {
			pc, err = t.g.Number(ctx, "$rip")
			return slices.Contains(places, pc), err
		}
		icount, err := t.g.GoBack(ctx, there)
		if err != nil || icount == 0 {
			return 0, err
		}
		now, err := t.g.Number(ctx, "$rsp")
		if err != nil {
			return 0, err
		}
		if is, err := there(); err != nil {
			return 0, err
		} else if !is {
			continue
		}
		if any || own(now) {
			return pc, nil
		}
	}
	return 0, nil
}

// drop removes breakpoints. After the end of ctx gdb may still wait for the guest, and would answer nothing.
func (t *tracer) drop(ctx context.Context, set ...gdb.Breakpoint) (err error) {
	for _, b := range set {
		if ctx.Err() == nil {
			err = errors.Join(err, t.g.DeleteBreak(ctx, b))
		}
	}
	return err
}

// thunks are functions between a call or a return and where it goes.
func isThunk(name string) bool {
	for _, prefix := range []string{"__x86_", "srso_", "retbleed_", "zen_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// stepOut takes one instruction back, and those of thunks.
func (t *tracer) stepOut(ctx context.Context) error {
	for range 8 {
		if _, err := t.g.GoStep(ctx, true); err != nil {
			return err
		}
		pc, err := t.g.Number(ctx, "$rip")
		if err != nil {
			return err
		}
		name, _, err := t.g.Disassemble(ctx, pc)
		if err != nil || !isThunk(name) {
			return nil // what it is that is no function, the next look says
		}
	}
	return nil
}

// maxCalls is how many calls a value is followed through.
const maxCalls = 12

// defined runs back to the instruction that gave a register its value. Of none, where the value came from outside of
// what can be followed, how is untouched.
func (t *tracer) defined(ctx context.Context, reg x86asm.Reg) (source, error) {
	for range maxCalls {
		pc, err := t.g.Number(ctx, "$rip")
		if err != nil {
			return source{}, err
		}
		f, err := t.function(ctx, pc)
		if err != nil {
			if fatal(ctx, err) {
				return source{}, err
			}
			return source{}, nil
		}
		places := map[uint64]source{f.entry: {}}
		for _, i := range f.code {
			s := gives(i.Inst, reg)
			switch {
			case s.how == returns:
				places[i.behind()] = s
			case s.how != untouched && i.Address != f.entry:
				places[i.Address] = s
			}
		}
		s, there := places[pc]
		if !there || s.how != untouched && s.how != returns { // what pc itself does is still to come
			if pc, err = t.backTo(ctx, sorted(places), false); err != nil || pc == 0 {
				return source{}, err
			}
			s = places[pc]
		}
		first := gives(f.code[f.at(f.entry)].Inst, reg)
		switch {
		case pc == f.entry && first.how != untouched && !there: // it has run since
			return first, nil
		case pc == f.entry, s.how == returns:
			if err := t.stepOut(ctx); err != nil {
				return source{}, err
			}
		default:
			return s, nil
		}
	}
	return source{}, nil
}

func sorted(places map[uint64]source) (list []uint64) {
	for p := range places {
		list = append(list, p)
	}
	slices.Sort(list)
	return list
}

// wrote is a write to memory that the guest stands before.
type wrote struct {
	store
	in      insn
	was, is uint64
}

// spilled says whether a compiler put a register on the stack only to get it back.
func (w *wrote) spilled() bool {
	base := wide(w.mem.Base)
	return w.from.how == copies && (base == x86asm.RSP || base == x86asm.RBP)
}

// maxRuns is how often a string instruction's writes to some bytes are passed over.
const maxRuns = 16

// written runs back to before the last write to some bytes, but for those of the string instruction that is at skip;
// nil: there is none.
func (t *tracer) written(ctx context.Context, address uint64, size int, skip uint64) (_ *wrote, err error) {
	w, err := t.g.Watch(ctx, address, size)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.drop(ctx, w)) }()
	is, err := t.value(ctx, address, size)
	if err != nil {
		return nil, err
	}
	var found *wrote
	writer := func() (bool, error) {
		var err error
		found, err = t.writer(ctx, address, size, is)
		return found != nil, err
	}
	for range maxOthers + maxRuns {
		icount, err := t.g.GoBack(ctx, writer)
		if err != nil || icount == 0 {
			return nil, err
		}
		if found != nil && found.in.Address == skip {
			is, found = found.was, nil
			continue
		}
		if found != nil {
			return found, nil
		}
		// QEMU stops behind the instruction.
		if is, err = t.value(ctx, address, size); err != nil {
			return nil, err
		}
		if _, err := t.g.GoStep(ctx, true); err != nil {
			return nil, err
		}
		if _, err := writer(); err != nil {
			return nil, err
		}
		if found != nil && found.in.Address == skip {
			is, found = found.was, nil
			continue
		}
		if found != nil {
			return found, nil
		}
	}
	return nil, nil
}

// writer is the write of the instruction that is next, after which the bytes are so; nil: it does not write there.
func (t *tracer) writer(ctx context.Context, address uint64, size int, is uint64) (*wrote, error) {
	in, err := t.here(ctx)
	if err != nil {
		return nil, err
	}
	was, err := t.value(ctx, address, size)
	if err != nil {
		return nil, err
	}
	s, stores := writes(in.Inst)
	if stores {
		to, err := t.address(ctx, s.mem, in)
		if err != nil {
			return nil, err
		}
		stores = to < address+uint64(size) && address < to+uint64(max(s.size, 1))
	}
	if !stores && was == is {
		return nil, nil
	}
	return &wrote{s, in, was, is}, nil
}
