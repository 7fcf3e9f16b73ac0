package foreign

import "golang.org/x/sys/unix"

const nativeArch = unix.AUDIT_ARCH_X86_64

// registers are those of a thread at a system call's entry.
type registers struct{ unix.PtraceRegs }

func (r *registers) get(pid int) error { return unix.PtraceGetRegs(pid, &r.PtraceRegs) }
func (r *registers) set(pid int) error { return unix.PtraceSetRegs(pid, &r.PtraceRegs) }

func (r *registers) number() uint64 { return r.Orig_rax }
func (r *registers) stack() uint64  { return r.Rsp }

// argument is one of the six arguments of the call.
func (r *registers) argument(n int) *uint64 {
	return [...]*uint64{&r.Rdi, &r.Rsi, &r.Rdx, &r.R10, &r.R8, &r.R9}[n]
}

// setNumber has the thread make another call, with what r has.
func (r *registers) setNumber(pid int, number uint64) error {
	r.Orig_rax = number
	return r.set(pid)
}

// result is what a call has returned.
func (r *registers) result() uint64 { return r.Rax }

// again has a thread that has made a call, and r as before that, make one of that number.
func (r *registers) again(number uint64) {
	r.Rax, r.Orig_rax = number, 1<<64-1 // no call is to be restarted
	r.Rip -= 2                          // the instruction syscall
}
