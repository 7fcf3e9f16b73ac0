package why

import (
	"slices"

	"golang.org/x/arch/x86/x86asm"
)

// origin is how an instruction gave a register, or memory, its value.
type origin int

const (
	untouched origin = iota
	loads            // from memory
	copies           // of a register, to which it may have added something
	keeps            // its own value, changed by a constant
	constant         // a number that is in the instruction
	computes         // of several things, or by what is not followed here
	returns          // a function that was called left it
)

// source is where a value came from.
type source struct {
	how  origin
	reg  x86asm.Reg // copies
	mem  x86asm.Mem // loads
	size int        // loads, in bytes
}

// wide is the 64-bit register that a general register is a part of; 0: it is none.
func wide(r x86asm.Reg) x86asm.Reg {
	switch {
	case x86asm.AL <= r && r <= x86asm.BL:
		return x86asm.RAX + r - x86asm.AL
	case x86asm.AH <= r && r <= x86asm.BH:
		return x86asm.RAX + r - x86asm.AH
	case x86asm.SPB <= r && r <= x86asm.R15B:
		return x86asm.RSP + r - x86asm.SPB
	case x86asm.AX <= r && r <= x86asm.R15W:
		return x86asm.RAX + r - x86asm.AX
	case x86asm.EAX <= r && r <= x86asm.R15L:
		return x86asm.RAX + r - x86asm.EAX
	case x86asm.RAX <= r && r <= x86asm.R15:
		return r
	}
	return 0
}

// clobbered are what a called function need not keep (System V's ABI for x86-64).
var clobbered = []x86asm.Reg{x86asm.RAX, x86asm.RCX, x86asm.RDX, x86asm.RSI, x86asm.RDI, x86asm.R8, x86asm.R9,
	x86asm.R10, x86asm.R11}

// arguments are where a function's are.
var arguments = []x86asm.Reg{x86asm.RDI, x86asm.RSI, x86asm.RDX, x86asm.RCX, x86asm.R8, x86asm.R9}

// elements are the sizes of what instructions for strings move, in bytes.
var elements = map[x86asm.Op]int{
	x86asm.MOVSB: 1, x86asm.MOVSW: 2, x86asm.MOVSD: 4, x86asm.MOVSQ: 8,
	x86asm.STOSB: 1, x86asm.STOSW: 2, x86asm.STOSD: 4, x86asm.STOSQ: 8,
	x86asm.LODSB: 1, x86asm.LODSW: 2, x86asm.LODSD: 4, x86asm.LODSQ: 8,
}

// gives is how an instruction gives a 64-bit register its value.
func gives(in x86asm.Inst, r x86asm.Reg) source {
	first, second := in.Args[0], in.Args[1]
	is := func(a x86asm.Arg) bool {
		reg, ok := a.(x86asm.Reg)
		return ok && wide(reg) == r
	}
	among := func(list ...x86asm.Reg) bool { return slices.Contains(list, r) }
	switch in.Op {
	case x86asm.CMP, x86asm.TEST, x86asm.PUSH, x86asm.BT, x86asm.NOP, x86asm.JMP, x86asm.UD2:
		return source{}
	case x86asm.CALL, x86asm.SYSCALL:
		if slices.Contains(clobbered, r) {
			return source{how: returns}
		}
		return source{}
	case x86asm.POP:
		if is(first) {
			return source{how: loads, mem: x86asm.Mem{Base: x86asm.RSP}, size: 8}
		}
		return source{}
	case x86asm.LEAVE:
		if r == x86asm.RBP {
			return source{how: loads, mem: x86asm.Mem{Base: x86asm.RBP}, size: 8}
		}
		return source{}
	case x86asm.MOVSB, x86asm.MOVSW, x86asm.MOVSD, x86asm.MOVSQ, x86asm.STOSB, x86asm.STOSW, x86asm.STOSD,
		x86asm.STOSQ, x86asm.CMPSB, x86asm.SCASB:
		if among(x86asm.RDI, x86asm.RSI, x86asm.RCX) {
			return source{how: keeps}
		}
		return source{}
	case x86asm.LODSB, x86asm.LODSW, x86asm.LODSD, x86asm.LODSQ:
		if r == x86asm.RAX {
			return source{how: loads, mem: x86asm.Mem{Base: x86asm.RSI}, size: elements[in.Op]}
		}
		return source{}
	case x86asm.MUL, x86asm.DIV, x86asm.IDIV, x86asm.CPUID, x86asm.RDTSC, x86asm.RDMSR, x86asm.RDTSCP:
		if among(x86asm.RAX, x86asm.RDX) || among(x86asm.RBX, x86asm.RCX) && in.Op == x86asm.CPUID {
			return source{how: computes}
		}
		return source{}
	case x86asm.CDQ, x86asm.CQO, x86asm.CWD:
		if r == x86asm.RDX {
			return source{how: computes}
		}
		return source{}
	case x86asm.CDQE, x86asm.CWDE, x86asm.CBW:
		if r == x86asm.RAX {
			return source{how: keeps}
		}
		return source{}
	case x86asm.CMPXCHG:
		if r == x86asm.RAX {
			return of(in, first)
		}
		return source{}
	case x86asm.XCHG, x86asm.XADD:
		if is(second) {
			return of(in, first)
		}
	case x86asm.IMUL:
		if second == nil && among(x86asm.RAX, x86asm.RDX) {
			return source{how: computes}
		}
	}
	if !is(first) {
		return source{}
	}
	switch in.Op {
	case x86asm.MOV, x86asm.MOVZX, x86asm.MOVSX, x86asm.MOVSXD, x86asm.XCHG:
		return of(in, second)
	case x86asm.LEA:
		m, _ := second.(x86asm.Mem)
		switch {
		case m.Base == x86asm.RIP || m.Base == 0 && m.Index == 0:
			return source{how: constant}
		case m.Index == 0 && wide(m.Base) == r:
			return source{how: keeps}
		case m.Index == 0:
			return source{how: copies, reg: wide(m.Base)}
		}
		return source{how: computes}
	case x86asm.XOR, x86asm.SUB:
		if is(second) {
			return source{how: constant}
		}
	}
	switch second.(type) {
	case nil, x86asm.Imm: // inc, shl and the like
		return source{how: keeps}
	}
	return source{how: computes}
}

// of is the value of an operand.
func of(in x86asm.Inst, a x86asm.Arg) source {
	switch a := a.(type) {
	case x86asm.Imm:
		return source{how: constant}
	case x86asm.Mem:
		return source{how: loads, mem: a, size: in.MemBytes}
	case x86asm.Reg:
		if r := wide(a); r != 0 {
			return source{how: copies, reg: r}
		}
	}
	return source{how: computes}
}

// store is what an instruction writes to memory.
type store struct {
	mem  x86asm.Mem
	size int
	from source
}

// writes is an instruction's store; false: it has none.
func writes(in x86asm.Inst) (store, bool) {
	top := x86asm.Mem{Base: x86asm.RSP, Disp: -8}
	to := x86asm.Mem{Base: x86asm.RDI}
	switch in.Op {
	case x86asm.PUSH:
		return store{top, 8, of(in, in.Args[0])}, true
	case x86asm.CALL:
		return store{top, 8, source{how: constant}}, true
	case x86asm.PUSHFQ:
		return store{top, 8, source{how: computes}}, true
	case x86asm.STOSB, x86asm.STOSW, x86asm.STOSD, x86asm.STOSQ:
		return store{to, elements[in.Op], source{how: copies, reg: x86asm.RAX}}, true
	case x86asm.MOVSB, x86asm.MOVSW, x86asm.MOVSD, x86asm.MOVSQ:
		size := elements[in.Op]
		return store{to, size, source{how: loads, mem: x86asm.Mem{Base: x86asm.RSI}, size: size}}, true
	case x86asm.CMP, x86asm.TEST, x86asm.BT, x86asm.JMP, x86asm.NOP, x86asm.MUL, x86asm.DIV, x86asm.IDIV, x86asm.IMUL,
		x86asm.LGDT, x86asm.LIDT, x86asm.LLDT, x86asm.LTR, x86asm.INVLPG, x86asm.CLFLUSH, x86asm.PREFETCHT0,
		x86asm.PREFETCHT1, x86asm.PREFETCHT2, x86asm.PREFETCHNTA, x86asm.PREFETCHW, x86asm.FXRSTOR, x86asm.FXRSTOR64,
		x86asm.XRSTOR, x86asm.XRSTOR64:
		return store{}, false
	}
	m, ok := in.Args[0].(x86asm.Mem)
	if !ok {
		return store{}, false
	}
	s := store{m, in.MemBytes, source{how: computes}}
	switch in.Op {
	case x86asm.MOV, x86asm.MOVNTI, x86asm.XCHG, x86asm.CMPXCHG:
		s.from = of(in, in.Args[1])
	}
	return s, true
}

// decides says whether an instruction is a conditional jump.
func decides(in x86asm.Inst) bool {
	switch in.Op {
	case x86asm.JA, x86asm.JAE, x86asm.JB, x86asm.JBE, x86asm.JE, x86asm.JNE, x86asm.JG, x86asm.JGE, x86asm.JL,
		x86asm.JLE, x86asm.JO, x86asm.JNO, x86asm.JP, x86asm.JNP, x86asm.JS, x86asm.JNS, x86asm.JRCXZ, x86asm.JECXZ:
		return true
	}
	return false
}

// compares says whether an instruction sets the flags that a conditional jump goes by.
func compares(in x86asm.Inst) bool {
	switch in.Op {
	case x86asm.CMP, x86asm.TEST, x86asm.BT, x86asm.BTS, x86asm.BTR, x86asm.BTC, x86asm.ADD, x86asm.SUB, x86asm.AND,
		x86asm.OR, x86asm.XOR, x86asm.INC, x86asm.DEC, x86asm.NEG, x86asm.SHL, x86asm.SHR, x86asm.SAR, x86asm.XADD,
		x86asm.CMPXCHG, x86asm.CMPXCHG16B, x86asm.ADC, x86asm.SBB:
		return true
	}
	return false
}

// operands are what an instruction reads, but for constants: registers and memory.
func operands(in x86asm.Inst) (list []source) {
	for _, a := range in.Args {
		switch s := of(in, a); {
		case a == nil:
		case s.how == loads, s.how == copies && !slices.Contains(list, s):
			list = append(list, s)
		}
	}
	return list
}

// reaches is the memory that an instruction reads or writes.
func reaches(in x86asm.Inst) (list []x86asm.Mem) {
	if in.Op == x86asm.LEA || in.Op == x86asm.NOP {
		return nil
	}
	for _, a := range in.Args {
		if m, ok := a.(x86asm.Mem); ok {
			list = append(list, m)
		}
	}
	return list
}
