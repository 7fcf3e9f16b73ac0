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

	"github.com/kimg/kimg/internal/sandbox/watch"
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
// and closes listener. The caller has the one id, and CHOWN, FOWNER, DAC_OVERRIDE, FSETID, SYS_CHROOT, SYS_PTRACE and
// SYS_RESOURCE in the processes' namespace; /proc is of its own pid namespace.
//
// One thread answers: the kernel wakes all that wait for a call, which costs more than a second one gains.
func (b *Book) Serve(listener int) error {
	ended := make(chan error)
	w := &worker{book: b, listener: listener}
	go func() {
		runtime.LockOSThread() // for good: its root and umask become others'
		ended <- w.run()
	}()
	err := <-ended
	unix.Close(listener)
	return err
}

type worker struct {
	book     *Book
	listener int
	*watch.View
	buf [unix.PathMax]byte
}

func (w *worker) run() (err error) {
	if w.View, err = watch.NewView(); err != nil {
		return fmt.Errorf("answer system calls: %w", err)
	}
	defer w.Close()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("answer system calls: unshare a thread's root: %w", err)
	}
	unix.Umask(0)
	// To be woken on the processor that asks, from Linux 6.6 on; without, it is only slower.
	_ = unix.IoctlSetInt(w.listener, unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)

	// Before Linux 6.11, who waits for a call does not learn of the end by itself.
	done, tid := make(chan struct{}), unix.Gettid()
	var watch sync.WaitGroup
	watch.Go(func() {
		for !hungUp(w.listener, -1) {
		}
		for {
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
				_ = unix.Tgkill(unix.Getpid(), tid, unix.SIGURG)
			}
		}
	})
	defer watch.Wait()
	defer close(done)

	for {
		var n notification
		if err := ioctl(w.listener, unix.SECCOMP_IOCTL_NOTIF_RECV, &n); err != nil {
			if hungUp(w.listener, 0) {
				return nil
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
