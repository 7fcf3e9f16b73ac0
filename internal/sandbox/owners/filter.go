//go:build linux && (amd64 || arm64)

package owners

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	retNotify = 0x7fc00000 // SECCOMP_RET_USER_NOTIF
	retGone   = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

// Load puts the calling thread, and what it starts from now on, under the filter, and returns the descriptor that
// Serve takes. The thread has no_new_privs, or CAP_SYS_ADMIN in its namespace.
func Load() (listener int, err error) {
	prog := filter()
	f := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	for _, flags := range []uintptr{
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, // before Linux 5.19
	} {
		fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags,
			uintptr(unsafe.Pointer(&f)))
		runtime.KeepAlive(prog)
		if errno == 0 {
			return int(fd), nil
		}
		if err = errno; errno != unix.EINVAL {
			break
		}
	}
	return -1, fmt.Errorf("have system calls answered (seccomp user notification): %w", err)
}

// filter notifies of the calls of the tables, and refuses those of other architectures.
func filter() []unix.SockFilter {
	own := rules(native, nil)
	if x32 != 0 {
		own = append([]unix.SockFilter{jump(unix.BPF_JGE, x32, 0, 1), give(retGone)}, own...)
	}
	prog := []unix.SockFilter{load(4), jump(unix.BPF_JEQ, nativeArch, 1, 0), skip(1 + len(own)), load(0)}
	prog = append(prog, own...)
	if compatArch != 0 {
		other := rules(compat, compatGone)
		prog = append(prog, jump(unix.BPF_JEQ, compatArch, 1, 0), skip(1+len(other)), load(0))
		prog = append(prog, other...)
	}
	return append(prog, give(retGone))
}

// rules decide on a call whose number is loaded.
func rules(calls []call, gone []uint32) (prog []unix.SockFilter) {
	for _, c := range calls {
		n := uint8(len(c.when.values))
		if n == 0 {
			prog = append(prog, jump(unix.BPF_JEQ, c.nr, 0, 1), give(retNotify))
			continue
		}
		prog = append(prog, jump(unix.BPF_JEQ, c.nr, 0, n+4), load(16+8*c.when.arg),
			unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: c.when.bits})
		for i, v := range c.when.values {
			prog = append(prog, jump(unix.BPF_JEQ, v, n-uint8(i), 0))
		}
		prog = append(prog, give(unix.SECCOMP_RET_ALLOW), give(retNotify))
	}
	for _, nr := range gone {
		prog = append(prog, jump(unix.BPF_JEQ, nr, 0, 1), give(retGone))
	}
	return append(prog, give(unix.SECCOMP_RET_ALLOW))
}

// load takes 32 bits of struct seccomp_data: 0 the number, 4 the architecture, 16+8n the low half of argument n.
func load(offset int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: uint32(offset)}
}

func jump(test uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, K: k, Jt: yes, Jf: no}
}

func skip(n int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(n)}
}

func give(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}
