package watch

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Where struct seccomp_data has the number of a system call and its architecture.
const (
	Number = 0
	Arch   = 4
)

// Argument is where the low half of an argument is in struct seccomp_data, on machines with the low half first.
func Argument(n int) int { return 16 + 8*n }

// Load takes 32 bits of struct seccomp_data.
func Load(offset int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: uint32(offset)}
}

// Jump compares what was loaded with k (BPF_JEQ, BPF_JGE, BPF_JGT), and skips so many instructions.
func Jump(test uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, K: k, Jt: yes, Jf: no}
}

// Skip skips n instructions.
func Skip(n int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(n)}
}

// Give ends the filter with an action, SECCOMP_RET_... with its data.
func Give(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}

// Filter puts the calling thread, and what it starts from now on, under a filter. It returns what seccomp(2) does with
// these flags: a descriptor, or 0.
func Filter(prog []unix.SockFilter, flags uintptr) (int, error) {
	f := unix.SockFprog{Len: uint16(len(prog)), Filter: unsafe.SliceData(prog)}
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags,
		uintptr(unsafe.Pointer(&f)))
	runtime.KeepAlive(prog)
	if errno != 0 {
		return -1, fmt.Errorf("load the seccomp filter: %w", errno)
	}
	return int(fd), nil
}
