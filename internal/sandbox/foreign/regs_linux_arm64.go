package foreign

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const nativeArch = unix.AUDIT_ARCH_AARCH64

// registers are those of a thread at a system call's entry.
type registers struct{ unix.PtraceRegsArm64 }

func (r *registers) get(pid int) error {
	return unix.PtraceGetRegSetArm64(pid, unix.NT_PRSTATUS, &r.PtraceRegsArm64)
}

func (r *registers) set(pid int) error {
	return unix.PtraceSetRegSetArm64(pid, unix.NT_PRSTATUS, &r.PtraceRegsArm64)
}

func (r *registers) number() uint64 { return r.Regs[8] }
func (r *registers) stack() uint64  { return r.Sp }

// argument is one of the six arguments of the call.
func (r *registers) argument(n int) *uint64 { return &r.Regs[n] }

// setNumber has the thread make another call, with what r has.
func (r *registers) setNumber(pid int, number uint64) error {
	if err := r.set(pid); err != nil {
		return err
	}
	const systemCall = 0x404 // NT_ARM_SYSTEM_CALL
	n := int32(number)
	v := unix.Iovec{Base: (*byte)(unsafe.Pointer(&n)), Len: uint64(unsafe.Sizeof(n))}
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_SETREGSET, uintptr(pid), systemCall,
		uintptr(unsafe.Pointer(&v)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// result is what a call has returned.
func (r *registers) result() uint64 { return r.Regs[0] }

// again has a thread that has made a call, and r as before that, make one of that number.
func (r *registers) again(number uint64) {
	r.Regs[8] = number
	r.Pc -= 4 // the instruction svc
}
