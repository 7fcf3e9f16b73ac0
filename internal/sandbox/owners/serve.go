//go:build linux && (amd64 || arm64)

package owners

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// notification is struct seccomp_notif.
type notification struct {
	id       uint64
	pid, _   uint32
	nr, arch uint32
	_        uint64
	args     args
}

// response is struct seccomp_notif_resp.
type response struct {
	id    uint64
	val   int64
	errno int32
	flags uint32
}

// answer is what a call returns. With cont the kernel does the call after all: for what no lie is told about.
type answer struct {
	val   int64
	errno unix.Errno
	cont  bool
}

var kernels = answer{cont: true}

func failed(err error) answer {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		errno = unix.EIO
	}
	return answer{errno: errno}
}

// Serve answers the calls of the processes under the filter that listener came with, until the last of them is gone,
// and closes listener. The caller has the one id, and CHOWN, FOWNER, DAC_OVERRIDE, FSETID, SYS_CHROOT and SYS_PTRACE in
// the processes' namespace; /proc is of its own pid namespace.
func (b *Book) Serve(listener int) error {
	defer unix.Close(listener)
	proc, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("answer system calls: open /proc: %w", err)
	}
	defer unix.Close(proc)
	// To be woken on the processor that asks, from Linux 6.6 on; without, it is only slower.
	_ = unix.IoctlSetInt(listener, unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)

	n := runtime.NumCPU()
	ready, begin, tids := make(chan error), make(chan bool), make([]int, n)
	var workers sync.WaitGroup
	for i := range n {
		workers.Go(func() {
			runtime.LockOSThread() // for good: its root and umask become others'
			tids[i] = unix.Gettid()
			ready <- unix.Unshare(unix.CLONE_FS)
			if <-begin {
				unix.Umask(0)
				(&worker{book: b, listener: listener, proc: proc}).run()
			}
		})
	}
	for range n {
		err = errors.Join(err, <-ready)
	}
	for range n {
		begin <- err == nil
	}
	if err != nil {
		return fmt.Errorf("answer system calls: unshare a thread's root: %w", err)
	}
	for !hungUp(listener, -1) {
	}
	// Before Linux 6.11, a worker that waits for a call does not learn of the end by itself.
	ended := make(chan struct{})
	go func() { workers.Wait(); close(ended) }()
	for {
		select {
		case <-ended:
			return nil
		case <-time.After(5 * time.Millisecond):
			for _, tid := range tids {
				_ = unix.Tgkill(unix.Getpid(), tid, unix.SIGURG)
			}
		}
	}
}

// hungUp waits for so many milliseconds, or for ever, until no process is under the filter any more.
func hungUp(listener, wait int) bool {
	p := []unix.PollFd{{Fd: int32(listener)}}
	_, err := unix.Poll(p, wait)
	return err == nil && p[0].Revents&unix.POLLHUP != 0
}

func ioctl[T any](fd int, request uint, arg *T) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(unsafe.Pointer(arg)))
	if errno != 0 {
		return errno
	}
	return nil
}

type worker struct {
	book     *Book
	listener int
	proc     int // /proc
	root     root
}

func (w *worker) run() {
	for {
		var n notification
		if err := ioctl(w.listener, unix.SECCOMP_IOCTL_NOTIF_RECV, &n); err != nil {
			if hungUp(w.listener, 0) {
				return
			}
			continue // a signal; or the process ended before it was heard
		}
		a := w.handle(&n)
		r := response{id: n.id, val: a.val, errno: -int32(a.errno)}
		if a.cont {
			r.flags = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
		}
		// Its error would be that the process has ended.
		_ = ioctl(w.listener, unix.SECCOMP_IOCTL_NOTIF_SEND, &r)
	}
}
