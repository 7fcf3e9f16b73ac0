//go:build amd64 || arm64

package foreign

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/kimg/kimg/internal/sandbox/watch"
)

// call looks at a system call that the filter stopped. It is done when the thread goes on.
func (t *tracer) call(pid int) error {
	var r registers
	if err := r.get(pid); err != nil {
		return err
	}
	var c *execution
	switch r.number() {
	case unix.SYS_EXECVE:
		c = &execution{path: r.argument(0), argv: r.argument(1), flags: new(uint64), dir: unix.AT_FDCWD}
	case unix.SYS_EXECVEAT:
		c = &execution{path: r.argument(1), argv: r.argument(2), flags: r.argument(4), dir: int(int32(*r.argument(0)))}
	case unix.SYS_KILL:
		return t.killAll(pid, &r)
	default:
		return nil
	}
	c.pid = pid
	args, root, ours := t.emulated(c)
	if !ours {
		return nil // the kernel does it, or says why not
	}
	emulator, err := t.emulatorIn(root)
	if err == nil {
		args = append([]argument{{text: emulator}, {text: "-0"}}, args...)
		var at, path uint64
		if at, path, err = t.place(pid, &r, args); err == nil {
			*c.path, *c.argv, *c.flags = path, at, 0
			return r.set(pid)
		}
	}
	if errors.Is(err, unix.ESRCH) {
		return err
	}
	// The kernel would say that it knows no such program, and a shell would take it for a script.
	*c.path = 0
	err = fmt.Errorf("have process %d run %s by %s: %w", pid, c.name, t.format.interpreter, err)
	return errors.Join(err, r.set(pid))
}

// execution is a call of execve or execveat.
type execution struct {
	pid               int
	path, argv, flags *uint64 // registers: the first two are addresses
	dir               int     // that path is relative to
	name              string  // that is at path
}

// argument is a string for a new argv: at an address in the process, or one that is yet to be put there.
type argument struct {
	at   uint64
	text string
}

// emulated returns what a call's program is run with by the emulator, its argv[0] and then its path, and the root that
// its process has; or not ours, where it is no program of the format, or whatever the kernel has an error for.
func (t *tracer) emulated(c *execution) (args []argument, root watch.Root, ours bool) {
	flags := int(int32(*c.flags))
	if flags&^(unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW) != 0 {
		return nil, root, false
	}
	memory, err := watch.Memory(c.pid), error(nil)
	if c.name, err = memory.String(*c.path, make([]byte, unix.PathMax)); err != nil {
		return nil, root, false
	}
	if root, err = t.Enter(c.pid); err != nil {
		return nil, root, false
	}
	head, ok := t.head(c.pid, c.dir, c.name, flags)
	if !ok {
		return nil, root, false
	}
	program := argument{at: *c.path, text: c.name}
	if c.dir != unix.AT_FDCWD && !strings.HasPrefix(c.name, "/") { // how the kernel calls it, for interpreters
		program = argument{text: strings.TrimSuffix(fmt.Sprintf("/dev/fd/%d/%s", c.dir, c.name), "/")}
	}
	var zero *argument // argv[0], where it is not the caller's own
	var before []argument
	for n := 0; !t.format.match(head); n++ {
		interpreter, option, ok := script(head)
		if !ok || n == maxScripts {
			return nil, root, false
		}
		before = append([]argument{program}, before...)
		if option != "" {
			before = append([]argument{{text: option}}, before...)
		}
		program = argument{text: interpreter}
		zero = &program
		if head, ok = t.head(c.pid, unix.AT_FDCWD, interpreter, 0); !ok {
			return nil, root, false
		}
	}
	own, err := argv(memory, *c.argv)
	if err != nil {
		return nil, root, false
	}
	if zero == nil {
		zero = &own[0]
	}
	return slices.Concat([]argument{*zero, program}, before, own[1:]), root, true
}

// argv reads a process's array of arguments: at least one, as the kernel has it from Linux 5.18 on.
func argv(memory watch.Memory, at uint64) (list []argument, err error) {
	const word, page = 8, 4096
	buf := make([]byte, page)
	for at != 0 {
		b := buf[:page-at%page&^(word-1)]
		if at%word != 0 { // nobody's
			b = buf[:word]
		}
		if err := memory.Read(at, b); err != nil {
			return nil, err
		}
		at += uint64(len(b))
		for ; len(b) > 0; b = b[word:] {
			p := binary.NativeEndian.Uint64(b)
			if p == 0 {
				at = 0
				break
			}
			list = append(list, argument{at: p})
		}
		if len(list) > 1<<20 { // more than a stack of any limit may have (ARG_MAX)
			return nil, unix.E2BIG
		}
	}
	if len(list) == 0 {
		list = []argument{{}}
	}
	return list, nil
}

const (
	// redZone is what a function may use below the stack pointer, on amd64.
	redZone = 128
	// maxBelow is how much is put below that. No stack is smaller: a signal's frame would be larger, and where these
	// have a stack of their own, as in Go's programs, 800 bytes are left for functions that do not grow the stack.
	maxBelow = 400
)

// place puts a new argv, with its strings, where a process may lose it: below its stack, or in memory of its own. It
// returns where the array is, and where its first string. r is then again, or still, what the process is to have.
func (t *tracer) place(pid int, r *registers, args []argument) (at, first uint64, err error) {
	size := 8 * (len(args) + 1)
	for _, a := range args {
		if a.at == 0 {
			size += len(a.text) + 1
		}
	}
	if size <= maxBelow {
		at = (r.stack() - redZone - uint64(size)) &^ 15
	} else if at, err = t.allocate(pid, r, size); err != nil {
		return 0, 0, err
	}
	var array, texts []byte
	for i, a := range args {
		p := a.at
		if p == 0 {
			p = at + uint64(8*(len(args)+1)+len(texts))
			texts = append(append(texts, a.text...), 0)
		}
		if i == 0 {
			first = p
		}
		array = binary.NativeEndian.AppendUint64(array, p)
	}
	array = binary.NativeEndian.AppendUint64(array, 0)
	if err := watch.Memory(pid).Write(at, append(array, texts...)); err != nil {
		return 0, 0, fmt.Errorf("put %d arguments into its memory: %w", len(args), err)
	}
	return at, first, nil
}

// allocate has a process that is about to make a call make another one before, mmap of so many bytes. r is then such
// that it makes its own call after that. (Who shares the memory with it, by vfork, keeps these bytes.)
func (t *tracer) allocate(pid int, r *registers, size int) (at uint64, err error) {
	before := *r
	number := r.number()
	for i, v := range []uint64{0, uint64(size), unix.PROT_READ | unix.PROT_WRITE,
		unix.MAP_PRIVATE | unix.MAP_ANONYMOUS, 1<<64 - 1, 0} {
		*r.argument(i) = v
	}
	if err := r.setNumber(pid, unix.SYS_MMAP); err != nil {
		return 0, err
	}
	if err := ptrace(unix.PTRACE_SYSCALL, pid, 0); err != nil {
		return 0, err
	}
	var ws syscall.WaitStatus
	for {
		if _, err = syscall.Wait4(pid, &ws, unix.WALL, nil); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	switch {
	case err != nil:
		return 0, err
	case !ws.Stopped(): // killed
		t.ended = append(t.ended, end{pid, ws})
		return 0, unix.ESRCH
	}
	if err := r.get(pid); err != nil {
		return 0, err
	}
	at = r.result()
	*r = before
	r.again(number)
	const errno = 4095
	if at > 1<<64-1-errno {
		return 0, fmt.Errorf("get %d bytes of its memory: %w", size, unix.Errno(-at))
	}
	return at, nil
}

// head returns the first bytes of a file that a process may execute, as it would find it: this thread has its root.
func (t *tracer) head(pid, dir int, name string, flags int) ([]byte, bool) {
	how := unix.O_PATH | unix.O_CLOEXEC
	if flags&unix.AT_SYMLINK_NOFOLLOW != 0 {
		how |= unix.O_NOFOLLOW
	}
	base := t.Of(pid, "cwd")
	if dir != unix.AT_FDCWD {
		base = t.Of(pid, "fd/"+strconv.Itoa(dir))
	}
	var fd int
	var err error
	switch {
	case name == "" && flags&unix.AT_EMPTY_PATH != 0:
		fd, err = unix.Openat(t.Proc, base, how, 0)
	case name == "":
		return nil, false
	case strings.HasPrefix(name, "/"):
		fd, err = unix.Openat(unix.AT_FDCWD, name, how, 0)
	default:
		var at int
		if at, err = unix.Openat(t.Proc, base, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
			fd, err = unix.Openat(at, name, how, 0)
			unix.Close(at)
		}
	}
	if err != nil {
		return nil, false
	}
	defer unix.Close(fd)
	if !t.mayExecute(pid, fd) {
		return nil, false
	}
	// Opened to be read only now: a fifo or a device would have noticed.
	file, err := unix.Openat(t.Proc, "self/fd/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, false
	}
	defer unix.Close(file)
	b := make([]byte, headSize)
	n, err := unix.Pread(file, b, 0)
	return b[:max(n, 0)], err == nil
}

// mayExecute reports whether a process may execute a file. Access lists are not looked at, nor who may search the
// directories above.
func (t *tracer) mayExecute(pid, fd int) bool {
	var st unix.Stat_t
	var fs unix.Statfs_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || unix.Fstatfs(fd, &fs) != nil ||
		fs.Flags&unix.ST_NOEXEC != 0 {
		return false
	}
	const all = 0o111
	if may := st.Mode & all; may == 0 || may == all {
		return may == all
	}
	s, err := t.Status(pid)
	if err != nil {
		return false
	}
	if root, err := s.Has(unix.CAP_DAC_OVERRIDE); err != nil || root {
		return root
	}
	const ofFiles = 3 // behind the real, the effective and the saved one
	uid, gid := strings.Fields(s.Line("Uid")), strings.Fields(s.Line("Gid"))
	if len(uid) <= ofFiles || len(gid) <= ofFiles {
		return false
	}
	group := strconv.FormatUint(uint64(st.Gid), 10)
	switch {
	case uid[ofFiles] == strconv.FormatUint(uint64(st.Uid), 10):
		return st.Mode&0o100 != 0
	case gid[ofFiles] == group || slices.Contains(strings.Fields(s.Line("Groups")), group):
		return st.Mode&0o010 != 0
	}
	return st.Mode&0o001 != 0
}

// fileKey names a file among those that exist.
type fileKey struct{ dev, ino uint64 }

// emulatorIn returns the emulator's path in a root, which this thread has. In others than the tracer's own it is a
// copy, below /dev: there an image of a tree has nothing.
func (t *tracer) emulatorIn(root watch.Root) (string, error) {
	path := t.format.interpreter
	if root == t.own {
		return path, nil
	}
	path = "/dev/." + Name + "." + filepath.Base(path)
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err == nil && t.copies[root] == (fileKey{st.Dev, st.Ino}) {
		return path, nil
	}
	if err := unix.Unlink(path); err != nil && !errors.Is(err, unix.ENOENT) {
		return "", &os.PathError{Op: "remove", Path: path, Err: err}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return "", fmt.Errorf("copy the emulator into the tree: %w", err)
	}
	if _, err = t.program.Seek(0, io.SeekStart); err == nil {
		_, err = io.Copy(f, t.program)
	}
	if err == nil {
		err = unix.Fstat(int(f.Fd()), &st)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("copy the emulator into the tree: %w", err)
	}
	t.copies[root] = fileKey{st.Dev, st.Ino}
	return path, nil
}
