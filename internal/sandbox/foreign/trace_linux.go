//go:build amd64 || arm64

package foreign

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/kimg/kimg/internal/sandbox/watch"
)

// commandName is argv[0] of the program while it is to become the command.
const commandName = Name + "-command"

// The statuses of the tracer itself, as env(1) has them: of its own faults, and of a command that is not there.
const (
	fault    = 125
	notFound = 127
)

func init() {
	// An init function has the process's main thread for itself.
	switch args := os.Args; {
	case len(args) > 2 && filepath.Base(args[0]) == Name && strings.HasPrefix(args[1], ":"):
		status, err := trace(args[1], args[2:])
		if err != nil {
			complain(err)
		}
		os.Exit(status)
	case len(args) > 1 && args[0] == commandName:
		os.Exit(becomeCommand(args[1:]))
	}
}

// complain writes a line that is found among what the command writes.
func complain(err error) { fmt.Fprintf(os.Stderr, "E: %s: %v\n", Name, err) }

// tracer is what the thread that traces knows. Nothing of it is of a single process.
type tracer struct {
	*watch.View
	format  format
	program *os.File               // the emulator
	own     watch.Root             // the tracer's and the command's
	copies  map[watch.Root]fileKey // of the emulator in other roots
	ended   []end                  // that wait has not seen
}

// end is that of a thread.
type end struct {
	pid int
	ws  syscall.WaitStatus
}

// trace runs the command to its end.
func trace(text string, args []string) (status int, err error) {
	t := &tracer{copies: map[watch.Root]fileKey{}}
	if t.format, err = parseFormat(text); err != nil {
		return fault, err
	}
	if t.program, err = os.Open(t.format.interpreter); err != nil {
		return fault, fmt.Errorf("open the emulator: %w", err)
	}
	pid, begin, err := start(args) // from the directory that this thread has until now
	if err != nil {
		return fault, fmt.Errorf("run %s under ptrace: %w", args[0], err)
	}
	// From here on all of this process has the root of whom it looks at: unshare would be refused by Docker's filter.
	if t.View, err = watch.NewView(); err != nil {
		return fault, err
	}
	if t.own, err = t.Enter(os.Getpid()); err != nil {
		return fault, fmt.Errorf("see what others see: %w", err)
	}
	unix.Umask(0)
	// What asks the tracer to end means the command, which did so before there was a tracer.
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM)
	go func() {
		for s := range asked {
			_ = unix.Kill(pid, s.(syscall.Signal)) // ESRCH: it has just ended
		}
	}()
	if err := begin(); err != nil {
		return fault, err
	}
	return t.wait(pid)
}

// start starts the process that is to be the command, and makes the calling thread its tracer. It executes nothing
// before begin, and ends with the tracer.
func start(args []string) (pid int, begin func() error, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, nil, err
	}
	defer r.Close()
	pid, err = syscall.ForkExec("/proc/self/exe", append([]string{commandName}, args...), &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2, r.Fd()},
	})
	if err != nil {
		return 0, nil, err
	}
	const all = unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACECLONE |
		unix.PTRACE_O_TRACESECCOMP | unix.PTRACE_O_EXITKILL
	if err := ptrace(unix.PTRACE_SEIZE, pid, all); err != nil {
		return 0, nil, err
	}
	// What the command's streams lead to ends with the command.
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	for fd := 0; err == nil && fd < 2; fd++ {
		err = unix.Dup3(null, fd, 0)
	}
	return pid, func() error {
		_, err := w.Write([]byte{0})
		return errors.Join(err, w.Close())
	}, err
}

// becomeCommand executes the command, once it is traced and with a filter that asks the tracer.
func becomeCommand(args []string) (status int) {
	const traced = 3
	f := os.NewFile(traced, "traced")
	if _, err := f.Read(make([]byte, 1)); err != nil {
		return fault // the tracer says why
	}
	f.Close()
	path, err := exec.LookPath(args[0])
	if err != nil {
		complain(err)
		return notFound
	}
	_, err = watch.Filter(filter(), 0)
	if errors.Is(err, unix.EACCES) { // an ordinary process that may still execute set-user-ID programs
		if err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err == nil {
			_, err = watch.Filter(filter(), 0)
		}
	}
	if err == nil {
		err = &os.PathError{Op: "run", Path: path, Err: syscall.Exec(path, args, os.Environ())}
	}
	complain(err)
	return fault
}

// filter stops for execve, execveat and kill(-1). Programs of another ABI are not looked at.
func filter() []unix.SockFilter {
	return []unix.SockFilter{
		watch.Load(watch.Arch), watch.Jump(unix.BPF_JEQ, nativeArch, 0, 4),
		watch.Load(watch.Number),
		watch.Jump(unix.BPF_JEQ, unix.SYS_EXECVE, 5, 0), watch.Jump(unix.BPF_JEQ, unix.SYS_EXECVEAT, 4, 0),
		watch.Jump(unix.BPF_JEQ, unix.SYS_KILL, 1, 0),
		watch.Give(unix.SECCOMP_RET_ALLOW),
		watch.Load(watch.Argument(0)), watch.Jump(unix.BPF_JEQ, 1<<32-1, 0, 1),
		watch.Give(unix.SECCOMP_RET_TRACE),
		watch.Give(unix.SECCOMP_RET_ALLOW),
	}
}

// wait does what the command's processes stop for, until the command has ended.
func (t *tracer) wait(command int) (status int, err error) {
	for {
		pid, ws, err := t.next()
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fault, fmt.Errorf("wait for processes: %w", err)
		case pid == command && ws.Exited():
			return ws.ExitStatus(), nil
		case pid == command && ws.Signaled():
			return 128 + int(ws.Signal()), nil
		case ws.Stopped():
			t.stopped(pid, ws.StopSignal(), int(ws>>16))
		}
	}
}

// next waits for a thread to stop or to end.
func (t *tracer) next() (pid int, ws syscall.WaitStatus, err error) {
	if len(t.ended) > 0 {
		e := t.ended[0]
		t.ended = t.ended[1:]
		return e.pid, e.ws, nil
	}
	pid, err = syscall.Wait4(-1, &ws, unix.WALL, nil)
	return pid, ws, err
}

// stopped lets a thread go on, once what it stopped for is done. ESRCH of any call is that it was killed.
func (t *tracer) stopped(pid int, sig syscall.Signal, event int) {
	switch event {
	case 0: // a signal for it
		_ = ptrace(unix.PTRACE_CONT, pid, uintptr(sig))
		return
	case unix.PTRACE_EVENT_STOP:
		if sig != unix.SIGTRAP { // it is stopped by SIGSTOP or the like, and stays so until SIGCONT
			_ = ptrace(unix.PTRACE_LISTEN, pid, 0)
			return
		}
	case unix.PTRACE_EVENT_SECCOMP:
		if err := t.call(pid); err != nil && !errors.Is(err, unix.ESRCH) {
			complain(err)
		}
	}
	_ = ptrace(unix.PTRACE_CONT, pid, 0)
}

// ptrace is for the thread that traces.
func ptrace(request, pid int, data uintptr) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(request), uintptr(pid), 0, data, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
