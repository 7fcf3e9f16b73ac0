//go:build linux && (amd64 || arm64)

package owners

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/kimg/kimg/internal/sandbox/watch"
)

const (
	retNotify = 0x7fc00000 // SECCOMP_RET_USER_NOTIF
	retGone   = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

// Load puts the calling thread, and what it starts from now on, under the filter, and returns the descriptor that
// Serve takes. The thread has no_new_privs, or CAP_SYS_ADMIN in its namespace.
func Load() (listener int, err error) {
	prog := filter()
	for _, flags := range []uintptr{
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, // before Linux 5.19
	} {
		if listener, err = watch.Filter(prog, flags); !errors.Is(err, unix.EINVAL) {
			break
		}
	}
	if err == nil {
		return listener, nil
	}
	return -1, fmt.Errorf("have system calls answered (seccomp user notification): %w", err)
}

// filter notifies of the calls of the tables, and refuses those of other architectures.
func filter() []unix.SockFilter {
	own := rules(native, nil)
	if x32 != 0 {
		own = append([]unix.SockFilter{watch.Jump(unix.BPF_JGE, x32, 0, 1), watch.Give(retGone)}, own...)
	}
	prog := []unix.SockFilter{watch.Load(watch.Arch), watch.Jump(unix.BPF_JEQ, nativeArch, 1, 0),
		watch.Skip(1 + len(own)), watch.Load(watch.Number)}
	prog = append(prog, own...)
	if compatArch != 0 {
		other := rules(compat, compatGone)
		prog = append(prog, watch.Jump(unix.BPF_JEQ, compatArch, 1, 0),
			watch.Skip(1+len(other)), watch.Load(watch.Number))
		prog = append(prog, other...)
	}
	return append(prog, watch.Give(retGone))
}

// rules decide on a call whose number is loaded.
func rules(calls []call, gone []uint32) (prog []unix.SockFilter) {
	for _, c := range calls {
		n := uint8(len(c.when.values))
		if n == 0 {
			prog = append(prog, watch.Jump(unix.BPF_JEQ, c.nr, 0, 1), watch.Give(retNotify))
			continue
		}
		prog = append(prog, watch.Jump(unix.BPF_JEQ, c.nr, 0, n+4), watch.Load(watch.Argument(c.when.arg)),
			unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: c.when.bits})
		for i, v := range c.when.values {
			prog = append(prog, watch.Jump(unix.BPF_JEQ, v, n-uint8(i), 0))
		}
		prog = append(prog, watch.Give(unix.SECCOMP_RET_ALLOW), watch.Give(retNotify))
	}
	for _, nr := range gone {
		prog = append(prog, watch.Jump(unix.BPF_JEQ, nr, 0, 1), watch.Give(retGone))
	}
	return append(prog, watch.Give(unix.SECCOMP_RET_ALLOW))
}
