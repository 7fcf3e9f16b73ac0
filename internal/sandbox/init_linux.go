package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kimg/kimg/internal/sandbox/owners"
)

func init() {
	if len(os.Args) == 2 && os.Args[0] == argv0 {
		if err := serve(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// initd is pid 1 of a sandbox, or a helper for trees: it never executes anything itself, so that no process that it
// shares a namespace with can take its file for one of theirs (CVE-2019-5736).
type initd struct {
	ids    IDs
	room   *Config // nil: a helper
	inodes inodes
	book   *owners.Book // nil with more than one id
	pts    int          // the directory of the sandbox's terminals

	mu       sync.Mutex
	children map[int]chan syscall.WaitStatus // those that Run started, by pid
	born     *sync.Cond
	births   int
}

// serve works on jobs until the other end of the control connection is closed, which the end of that process does.
func serve() error {
	// PDEATHSIG was set by the exec; dumpable lets no process of the sandbox open /proc/1 once ids are mapped.
	const control = 3
	// What the person's shell or a CI left open without O_CLOEXEC would reach the processes of the sandbox.
	if err := unix.CloseRange(control+1, 1<<32-1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close what was left open: %w", err)
	}
	// Every signal that a process of the sandbox may send is taken, and dropped. They are not ignored: that would be
	// inherited.
	signal.Notify(make(chan os.Signal, 1))
	unix.Umask(0o022)
	c, err := fileConn(os.NewFile(control, "control"))
	if err != nil {
		return err
	}
	in := &initd{children: map[int]chan syscall.WaitStatus{}}
	in.born = sync.NewCond(&in.mu)
	b := make([]byte, 1)
	for first := true; ; {
		_, fds, err := readRights(c, b)
		if err != nil {
			return nil // the other end is gone: so is everything here
		}
		for _, fd := range fds {
			jc, err := fileConn(os.NewFile(uintptr(fd), "job"))
			if err != nil {
				return err
			}
			if first { // it says what all others are done with
				in.work(newWire(jc))
				first = false
			} else {
				go in.work(newWire(jc))
			}
		}
	}
}

// work does a job to its end.
func (in *initd) work(w *wire) {
	defer w.Close()
	var j job
	files, err := w.receive(&j)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if err != nil {
		return
	}
	if in.room == nil { // the first one
		in.ids, in.inodes = j.IDs, plain{j.IDs.One()}
	}
	if len(j.Dirs) == 0 {
		j.Dirs = []string{""}
	}
	var r reply
	switch j.Op {
	case opRoom:
		err = in.enter(j.Room)
	case opRun:
		r.Status, err = in.run(w, j.Proc, files)
	case opKillAll:
		killAll()
	case opUnpack:
		err = in.unpack(j.Dirs[0], files[0])
	case opPack:
		if in.room == nil {
			err = in.packTree(j.Dirs[0], files[0])
		} else {
			err = in.pack(j.Dirs[0], files[0])
		}
	case opCopy:
		err = in.copyTree(j.From, j.Dirs[0])
	case opRemove:
		for _, d := range j.Dirs {
			err = errors.Join(err, os.RemoveAll(d))
		}
	case opSize:
		var n int64
		if n, err = diskSize(j.Dirs[0]); err == nil {
			_, err = fmt.Fprintln(files[0], n)
		}
	case opOverlay:
		err = in.tryOverlay(j.Dirs[0])
	default:
		err = fmt.Errorf("%s: %w", j.Op, errors.ErrUnsupported)
	}
	if err != nil {
		r = failure(err)
	}
	_ = w.send(r) // a caller that is gone does not mind
}

func failure(err error) reply {
	r := reply{Err: err.Error()}
	errors.As(err, &r.Errno)
	return r
}

// enter makes the room and has this process be pid 1 of it.
func (in *initd) enter(c *Config) error {
	// Ids are mapped now: /proc/1 had to be this user's until then.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	if err := limitProcesses(); err != nil {
		return err
	}
	pts, err := makeRoom(c)
	if err != nil {
		return err
	}
	in.room, in.pts = c, pts
	if c.IDs.One() {
		action := uint32(unix.SECCOMP_RET_USER_NOTIF)
		err := raw(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action)))
		if err != nil {
			return fmt.Errorf("have system calls answered (seccomp user notification): %w", err)
		}
		in.book = owners.NewBook()
		in.inodes = in.book
	}
	go in.reap()
	return nil
}

// maxProcesses is how many processes and threads of one user there may be in a sandbox: a bound for fork bombs.
const maxProcesses = 32768

func limitProcesses() error {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &r); err != nil {
		return err
	}
	r.Cur, r.Max = min(r.Cur, maxProcesses), min(r.Max, maxProcesses)
	// Counted for each user namespace (Linux 5.14), and not for the machine's root.
	if err := unix.Setrlimit(unix.RLIMIT_NPROC, &r); err != nil {
		return fmt.Errorf("limit the processes: %w", err)
	}
	return nil
}

// reap waits for all processes of the sandbox: those that lost their parent are pid 1's children.
func (in *initd) reap() {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		in.mu.Lock()
		switch {
		case err == nil:
			if ch := in.children[pid]; ch != nil {
				ch <- ws
				delete(in.children, pid)
			}
		case errors.Is(err, syscall.ECHILD):
			for seen := in.births; in.births == seen && len(in.children) == 0; {
				in.born.Wait()
			}
		}
		in.mu.Unlock()
	}
}

// killAll returns when pid 1 is the only process.
func killAll() {
	for unix.Kill(-1, unix.SIGKILL) != unix.ESRCH {
		time.Sleep(time.Millisecond)
	}
}

// run starts a process, says so, passes signals on, and waits for its end.
func (in *initd) run(w *wire, p *process, files []*os.File) (status int, err error) {
	started, pty := reply{}, -1
	if p.TTY {
		var tty *os.File
		if pty, tty, err = in.openPTY(); err != nil {
			return 0, err
		}
		defer tty.Close()
		files = []*os.File{tty, tty, tty}
	}
	if len(files) != 3 {
		return 0, fmt.Errorf("run %s: %d streams arrived", p.Args[0], len(files))
	}
	pidfd, ended, err := in.start(p, files)
	for _, f := range files {
		f.Close() // so that a pipe ends with the process
	}
	if pty >= 0 {
		defer unix.Close(pty)
	}
	if err != nil {
		return 0, err
	}
	defer unix.Close(pidfd)
	if pty >= 0 {
		err = w.send(started, pty)
	} else {
		err = w.send(started)
	}
	if err != nil { // nobody would know of the process
		_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
		<-ended
		return 0, err
	}
	signals := make(chan struct{})
	go func() {
		defer close(signals)
		for {
			var s sig
			if _, err := w.receive(&s); err != nil {
				return
			}
			_ = unix.PidfdSendSignal(pidfd, s.Number, nil, 0) // ESRCH: it has just ended
		}
	}()
	ws := <-ended
	_ = w.CloseRead()
	<-signals
	if ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return ws.ExitStatus(), nil
}

// openPTY makes a terminal of the sandbox's own, whatever lies in its /dev by now.
func (in *initd) openPTY() (master int, tty *os.File, err error) {
	master, err = unix.Openat(in.pts, "ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, nil, fmt.Errorf("open a terminal: %w", err)
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		unix.Close(master)
		return -1, nil, fmt.Errorf("unlock a terminal: %w", err)
	}
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER,
		unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		unix.Close(master)
		return -1, nil, fmt.Errorf("open a terminal's other end: %w", errno)
	}
	return master, os.NewFile(fd, "tty"), nil
}
