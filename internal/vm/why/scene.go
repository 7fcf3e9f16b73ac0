package why

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kimg/kimg/internal/addr2line"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/splat"
	"golang.org/x/arch/x86/x86asm"
)

// Kind says what a Step shows.
type Kind string

// The kinds.
const (
	Noticed   Kind = "noticed"   // where the kernel told of it
	Fault     Kind = "fault"     // the instruction or call that was wrong
	Condition Kind = "condition" // the comparison that led there
	Freed     Kind = "freed"
	Allocated Kind = "allocated"
	Locked    Kind = "locked"
	Loaded    Kind = "loaded"  // where a value was read from memory
	Written   Kind = "written" // who wrote it there
	Set       Kind = "set"     // who gave it its value otherwise
	Unknown   Kind = "unknown" // where it came from cannot be followed further
)

// stepKinds are of what ended the following of a value in a register.
var stepKinds = map[origin]Kind{constant: Set, computes: Set, untouched: Unknown}

// question is a value whose origin is to be found, and where in the recording it is looked for from.
type question struct {
	Icount  uint64     `json:"icount"`
	What    string     `json:"what"`              // the value
	Reg     x86asm.Reg `json:"reg,omitempty"`     // it is in this register
	Address uint64     `json:"address,omitempty"` // or in memory
	Size    int        `json:"size,omitempty"`
	Writers int        `json:"writers"`          // how many writes are told of, the last first
	Before  bool       `json:"before,omitempty"` // the last one is known: this one's value is not followed
	Skip    uint64     `json:"skip,omitempty"`   // a string instruction whose writes are told of
	Freed   bool       `json:"freed,omitempty"`  // where the object was freed that the address is in
	Depth   int        `json:"depth,omitempty"`  // writes that the value has been followed through
}

// scene is what a report says, gone to in the recording.
type scene struct {
	*tracer
	r     *splat.Report
	file  *addr2line.File
	queue []question
}

// openScene is of a recording's directory. The caller closes the file.
func openScene(t *tracer, r *splat.Report, dir string) (*scene, error) {
	file, err := addr2line.Open(dir + "/" + artifact.Vmlinux)
	if err != nil {
		return nil, err
	}
	return &scene{tracer: t, r: r, file: file}, nil
}

// writersOfFirst is how many writes are told of memory that a report names: the wrong one, and the one before.
const writersOfFirst = 2

// begin goes back to what the report tells of, shows it, and leaves the questions that follow from it.
func (s *scene) begin(ctx context.Context, have func(string) bool) error {
	if err := s.toNotice(ctx, have); err != nil {
		return err
	}
	at, err := s.step(ctx, Step{Kind: Noticed, What: "the kernel told of it here"})
	if err != nil {
		return err
	}
	done := false
	if s.r.At != nil {
		done, err = s.atInstruction(ctx)
	}
	if !done && err == nil {
		done, err = s.atCall(ctx)
	}
	if !done && (err == nil || !fatal(ctx, err)) {
		s.keep(at)
	}
	switch s.r.Kind {
	case splat.Lockdep, splat.Sleep, splat.Atomic:
		if err == nil {
			err = s.locks(ctx)
		}
	}
	return err
}

// locks shows where the locks of the report were taken, each the last time before where the guest is.
func (s *scene) locks(ctx context.Context) error {
	from, err := s.g.Icount(ctx)
	if err != nil {
		return err
	}
	for _, l := range taken(s.r) {
		call, err := s.toCall(ctx, &l.frame)
		if err != nil {
			return err
		}
		if call != nil {
			if err := s.show(ctx, Step{Kind: Locked, What: l.name + " was taken here"}); err != nil {
				return err
			}
		}
		if err := s.g.GoTo(ctx, from); err != nil {
			return err
		}
	}
	return nil
}

// toNotice runs back to where the kernel told of the report.
func (s *scene) toNotice(ctx context.Context, have func(string) bool) error {
	var places []uint64
	for _, f := range s.r.Stops(have) {
		address, err := s.g.Number(ctx, "&'"+f+"'")
		if fatal(ctx, err) {
			return err
		}
		if err == nil {
			places = append(places, address)
		}
	}
	if len(places) > 0 {
		pc, err := s.backTo(ctx, places, true)
		if err != nil {
			return err
		}
		if pc != 0 {
			return nil
		}
	}
	return fmt.Errorf("find the report in the recording: none of its instructions tells of one like it")
}

// atInstruction goes to the instruction that a report names; false: there is no way to it.
func (s *scene) atInstruction(ctx context.Context) (done bool, err error) {
	at := s.r.At
	address, err := s.file.Address(at.Function, at.Offset, at.Size)
	if err != nil {
		return false, nil // a module's: the call trace may help
	}
	told, err := s.g.Icount(ctx)
	if err != nil {
		return false, err
	}
	pc, err := s.backTo(ctx, []uint64{address}, true)
	if err != nil || pc == 0 {
		return false, err
	}
	if err := s.toFault(ctx, address, told); err != nil {
		return false, err
	}
	in, err := s.here(ctx)
	if err != nil {
		return !fatal(ctx, err), err
	}
	switch s.r.Kind {
	case splat.Oops:
		return true, s.atFault(ctx, in)
	case splat.Refcount:
		return false, nil // its caller has the object
	case splat.List:
		if err := s.show(ctx, Step{Kind: Fault, What: "the check of the list failed here"}); err != nil {
			return true, err
		}
		return true, s.askOfSuspects(ctx)
	}
	what := "the check that failed"
	switch s.r.Kind {
	case splat.SoftLockup, splat.HardLockup, splat.RCUStall:
		what = "the processor was here all the time"
	}
	if err := s.show(ctx, Step{Kind: Fault, What: what}); err != nil {
		return true, err
	}
	return true, s.askOfCondition(ctx)
}

// toFault goes on to where an instruction reaches for the address that could not be reached, but not beyond where that
// was told: QEMU may pass over a breakpoint whose instruction faults, and stop at an earlier time of it.
func (s *scene) toFault(ctx context.Context, address, told uint64) (err error) {
	wrong, known := fault(s.r)
	if !known {
		return nil
	}
	b, err := s.g.SetBreak(ctx, fmt.Sprintf("*%#x", address), true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.drop(ctx, b)) }()
	for range maxPasses {
		in, err := s.here(ctx)
		if err != nil {
			return err
		}
		for _, m := range reaches(in.Inst) {
			at, err := s.address(ctx, m, in)
			if err != nil || at <= wrong && wrong-at <= 64 {
				return err
			}
		}
		icount, err := s.g.GoOn(ctx)
		if err != nil {
			return err
		}
		if icount >= told {
			break
		}
	}
	return fmt.Errorf("find the fault: %#x reaches for %#x at no time before it was told", address, wrong)
}

// maxPasses is how often an instruction may be passed before it faults.
const maxPasses = 100

// atFault asks where the address came from that an instruction could not reach, or the number that it divided by.
func (s *scene) atFault(ctx context.Context, in insn) error {
	if in.Op == x86asm.DIV || in.Op == x86asm.IDIV {
		if err := s.show(ctx, Step{Kind: Fault, What: "the division"}); err != nil {
			return err
		}
		return s.askOf(ctx, in, "the divisor", operands(in.Inst))
	}
	wrong, known := fault(s.r)
	what, reg := "the fault", x86asm.Reg(0)
	for _, m := range reaches(in.Inst) {
		at, err := s.address(ctx, m, in)
		if fatal(ctx, err) {
			return err
		}
		if err != nil || known && (at > wrong || wrong-at > 64) {
			continue
		}
		if reg, err = s.wild(ctx, m); err != nil {
			return err
		}
		what = fmt.Sprintf("the fault: the instruction reached for %#x", at)
		if reg != 0 {
			v, err := s.register(ctx, reg)
			if err != nil {
				return err
			}
			what += fmt.Sprintf(", by %s = %#x", name(reg), v)
		}
		break
	}
	if err := s.show(ctx, Step{Kind: Fault, What: what}); err != nil || reg == 0 {
		return err
	}
	return s.ask(ctx, question{What: name(reg), Reg: reg, Writers: writersOfFirst})
}

// wild is the register that makes an address a bad one; 0: none.
func (s *scene) wild(ctx context.Context, m x86asm.Mem) (x86asm.Reg, error) {
	base, index := wide(m.Base), wide(m.Index)
	if base == 0 || base == x86asm.RSP {
		return index, nil
	}
	v, err := s.register(ctx, base)
	return wildOf(base, index, v), err
}

// wildOf is the one of two registers that makes an address a bad one, by what the base holds.
func wildOf(base, index x86asm.Reg, held uint64) x86asm.Reg {
	if index != 0 && (isKernel(held) || held == kasanShadow) {
		return index
	}
	return base
}

// kasanShadow is KASAN_SHADOW_OFFSET of x86-64, which inlined checks add to an eighth of an address
// (Documentation/dev-tools/kasan.rst).
const kasanShadow = 0xdffffc0000000000

// name is a register as AT&T's syntax has it.
func name(r x86asm.Reg) string { return "%" + strings.ToLower(r.String()) }

// atCall goes to the call, in the function that the report is about, of what noticed.
// It is false where there is no way to it.
func (s *scene) atCall(ctx context.Context) (done bool, err error) {
	f := noticed(s.r)
	if f == nil {
		return false, nil
	}
	call, err := s.toCall(ctx, f)
	if err != nil || call == nil {
		return false, err
	}
	what := "the call that was wrong"
	switch s.r.Kind {
	case splat.Panic, splat.StackProtector:
		what = "the call of panic"
	case splat.KASAN, splat.KFENCE, splat.KMSAN, splat.KCSAN:
		what = "the access"
	case splat.Oops:
		what = "the call that went astray"
	case splat.HungTask:
		what = "the call in which it sleeps"
	case splat.UBSAN:
		what = "what the compiler found undefined"
	}
	if err := s.show(ctx, Step{Kind: Fault, What: what}); err != nil {
		return true, err
	}
	return true, s.askOfCall(ctx, *call)
}

// askOfCall asks for what a wrong call was given.
func (s *scene) askOfCall(ctx context.Context, call insn) error {
	switch s.r.Kind {
	case splat.Oops: // it jumped to where there is no code
		return s.askOf(ctx, call, "the function's address", target(call))
	case splat.KASAN, splat.KFENCE, splat.KMSAN, splat.KCSAN:
		if err := s.askOfSuspects(ctx); err != nil {
			return err
		}
		if strings.Contains(call.Text, "asan_") { // it gets the address
			if err := s.ask(ctx, question{What: "the pointer", Reg: arguments[0], Writers: 1}); err != nil {
				return err
			}
		}
		return s.lifetime(ctx)
	case splat.Slab:
		if err := s.askOfSuspects(ctx); err != nil {
			return err
		}
		return s.lifetime(ctx)
	case splat.UBSAN: // its handlers get what they are about, and the values
		list := arguments[1:2]
		if strings.Contains(s.r.Detail, "overflow") || strings.Contains(s.r.Detail, "shift") {
			list = arguments[1:3]
		}
		for _, r := range list {
			q := question{What: "the value (" + name(r) + ")", Reg: r, Writers: writersOfFirst}
			if err := s.ask(ctx, q); err != nil {
				return err
			}
		}
	case splat.Lockdep, splat.Spinlock, splat.Refcount, splat.HungTask:
		if len(suspects(s.r)) > 0 {
			return s.askOfSuspects(ctx)
		}
		v, err := s.register(ctx, arguments[0])
		if err != nil || !isKernel(v) {
			return err
		}
		return s.ask(ctx, question{What: "the object", Address: v, Size: 4, Writers: writersOfFirst})
	case splat.Panic:
		return s.askOfCondition(ctx)
	}
	return nil
}

// target is where an indirect call takes its address from.
func target(call insn) []source {
	callee := strings.TrimSuffix(call.Text[strings.LastIndexByte(call.Text, '<')+1:], ">")
	if thunk, ok := strings.CutPrefix(callee, "__x86_indirect_thunk_"); ok {
		for r := x86asm.RAX; r <= x86asm.R15; r++ {
			if strings.EqualFold(r.String(), thunk) {
				return []source{{how: copies, reg: r}}
			}
		}
	}
	return operands(call.Inst)
}

// toCall runs back to before a call that a frame is to return from; nil: there is none.
func (s *scene) toCall(ctx context.Context, f *splat.Frame) (*insn, error) {
	behind, err := s.file.Address(f.Function, f.Offset, f.Size)
	if err != nil {
		return nil, nil
	}
	fn, err := s.function(ctx, behind-1)
	if err != nil {
		if fatal(ctx, err) {
			return nil, err
		}
		return nil, nil
	}
	call := fn.callBefore(behind)
	if call == nil {
		return nil, nil
	}
	pc, err := s.backTo(ctx, []uint64{call.Address}, true)
	if err != nil || pc == 0 {
		return nil, err
	}
	return call, nil
}

// maxFrees is how many frees from one place are looked at for the object's.
const maxFrees = 4

// lifetime shows where the report's object was freed, and where it was allocated.
func (s *scene) lifetime(ctx context.Context) error {
	freed, allocated := stacks(s.r)
	object := object(s.r)
	if freed != nil {
		if f := caller(freed); f != nil {
			for n := range maxFrees {
				call, err := s.toCall(ctx, f)
				if err != nil {
					return err
				}
				if call == nil {
					break
				}
				is, err := s.among(ctx, object, arguments[:3])
				if err != nil {
					return err
				}
				if is || n == maxFrees-1 {
					step := Step{Kind: Freed, What: "the object was freed here", Address: number(object)}
					if !is {
						step.What = "the last free from where the object was freed"
					}
					if err := s.show(ctx, step); err != nil {
						return err
					}
					break
				}
			}
		}
	}
	if allocated == nil {
		return nil
	}
	f := caller(allocated)
	if f == nil {
		return nil
	}
	behind, err := s.file.Address(f.Function, f.Offset, f.Size)
	if err != nil {
		return nil
	}
	for range maxFrees {
		pc, err := s.backTo(ctx, []uint64{behind}, true)
		if err != nil || pc == 0 {
			return err
		}
		is, err := s.among(ctx, object, []x86asm.Reg{x86asm.RAX})
		if err != nil {
			return err
		}
		if is {
			return s.show(ctx, Step{Kind: Allocated, What: "the object was allocated here", Address: number(object)})
		}
	}
	return nil
}

// among says whether one of some registers has a value.
func (s *scene) among(ctx context.Context, value uint64, list []x86asm.Reg) (bool, error) {
	for _, r := range list {
		v, err := s.register(ctx, r)
		if v == value || err != nil {
			return err == nil, err
		}
	}
	return false, nil
}

// askOfSuspects asks who wrote what the report names.
func (s *scene) askOfSuspects(ctx context.Context) error {
	for _, one := range suspects(s.r) {
		if one.Symbol != "" {
			symbol, offset, _ := strings.Cut(one.Symbol, "+")
			address, err := s.g.Number(ctx, "&'"+symbol+"'")
			if err != nil {
				if fatal(ctx, err) {
					return err
				}
				continue
			}
			one.Address = address + hexadecimal(strings.TrimPrefix(offset, "0x"))
		}
		if !isKernel(one.Address) {
			continue
		}
		what := one.What
		if what == "" {
			what = "the memory that the report names"
		}
		err := s.ask(ctx, question{What: what, Address: one.Address, Size: one.Size, Writers: writersOfFirst})
		if err != nil {
			return err
		}
	}
	return nil
}

// maxBetween is how many instructions may be between a comparison and its jump.
const maxBetween = 6

// askOfCondition goes back to the comparison that led the guest here, in this call of the function, and asks where
// what was compared came from.
func (s *scene) askOfCondition(ctx context.Context) error {
	pc, err := s.g.Number(ctx, "$rip")
	if err != nil {
		return err
	}
	f, err := s.function(ctx, pc)
	if err != nil {
		if fatal(ctx, err) {
			return err
		}
		return nil
	}
	var jumps []uint64
	for _, i := range f.code {
		if decides(i.Inst) {
			jumps = append(jumps, i.Address)
		}
	}
	if len(jumps) == 0 {
		return nil
	}
	if pc, err = s.backTo(ctx, jumps, false); err != nil || pc == 0 {
		return err
	}
	at := f.at(pc)
	for i := at - 1; i >= max(0, at-maxBetween); i-- {
		if !compares(f.code[i].Inst) {
			continue
		}
		in := f.code[i]
		if pc, err = s.backTo(ctx, []uint64{in.Address}, false); err != nil || pc == 0 {
			return err
		}
		if err := s.show(ctx, Step{Kind: Condition, What: "what was compared"}); err != nil {
			return err
		}
		return s.askOf(ctx, in, "what was compared", operands(in.Inst))
	}
	return nil
}

// askOf asks where the operands of the instruction come from that is next.
func (s *scene) askOf(ctx context.Context, in insn, what string, list []source) error {
	for _, from := range list {
		q := question{What: what, Reg: from.reg, Size: from.size, Writers: writersOfFirst}
		if from.how == loads {
			var err error
			if q.Address, err = s.address(ctx, from.mem, in); err != nil {
				return err
			}
			if !isKernel(q.Address) {
				continue
			}
			q.Size = power(fmt.Sprint(from.size))
		}
		if len(list) > 1 && q.Reg != 0 {
			q.What += " (" + name(q.Reg) + ")"
		}
		if err := s.ask(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

// ask leaves a question at where the guest is.
func (s *scene) ask(ctx context.Context, q question) (err error) {
	if q.Icount, err = s.g.Icount(ctx); err != nil {
		return err
	}
	if !slices.ContainsFunc(s.queue, func(o question) bool { return o.Reg == q.Reg && o.Address == q.Address }) {
		s.queue = append(s.queue, q)
	}
	return nil
}
