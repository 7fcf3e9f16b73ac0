//go:build linux && (amd64 || arm64)

package owners

import (
	"cmp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kimg/kimg/internal/sandbox/watch"
)

// task is a thread that waits for an answer.
type task struct {
	*worker
	id  uint64
	pid int
}

// alive reports whether the task still waits. What was read under its number before is then its own:
// a number is given to another process only when the first one is gone.
func (t *task) alive() bool {
	return ioctl(t.listener, unix.SECCOMP_IOCTL_NOTIF_ID_VALID, &t.id) == nil
}

// readPath reads a path of the task's memory.
func (t *task) readPath(ptr uint64) (string, error) { return watch.Memory(t.pid).String(ptr, t.buf[:]) }

// read fills b from the task's memory.
func (t *task) read(ptr uint64, b []byte) error { return watch.Memory(t.pid).Read(ptr, b) }

// write puts b into the task's memory.
func (t *task) write(ptr uint64, b []byte) error {
	if !t.alive() {
		return unix.ESRCH
	}
	return watch.Memory(t.pid).Write(ptr, b)
}

// place is where the kernel finds a file for the task, said for this thread: it has the task's root (see enter).
type place struct {
	dir   int
	path  string
	flags int    // noFollow or 0
	fd    string // in /proc, where it is reached through one of the task's descriptors
}

// find reads the path at ptr, which is relative to dir.
func (t *task) find(dir, ptr, flags uint64) (place, error) {
	path := ""
	if ptr != 0 || flags&emptyPath == 0 { // without a path is, from Linux 6.11 on, an empty one
		var err error
		if path, err = t.readPath(ptr); err != nil {
			return place{}, err
		}
	}
	f := int(flags) & noFollow
	fd := int(int32(dir))
	if n, rest, ok := descriptor(path); ok && (rest != "" || f == 0) {
		if rest == "" {
			return place{t.Proc, t.of("fd/" + n), 0, ""}, nil
		}
		path, fd = rest, must(n)
	}
	base := t.of(t.base(fd))
	switch {
	case path == "" && flags&emptyPath == 0:
		return place{}, unix.ENOENT
	case strings.HasPrefix(path, "/"):
		return place{unix.AT_FDCWD, path, f, ""}, t.enter()
	case path == "":
		return place{t.Proc, base, 0, base}, nil
	}
	if err := t.enter(); err != nil { // as far as .. goes, and for symbolic links
		return place{}, err
	}
	if p := base + "/" + path; len(p) < unix.PathMax {
		return place{t.Proc, p, f, base}, nil
	}
	// Together they are too long: this thread goes there itself.
	at, err := unix.Openat(t.Proc, base, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return place{}, err
	}
	defer unix.Close(at)
	return place{unix.AT_FDCWD, path, f, base}, unix.Fchdir(at)
}

// open opens path, with which p.path begins. No link of /proc is followed but those that find put there: the others
// would be this process's, and lead to its own program and files.
func (t *task) open(p place, path string, flags int) (int, error) {
	flags |= unix.O_PATH | unix.O_CLOEXEC
	dir := p.dir
	if dir == t.Proc {
		rest, below := strings.CutPrefix(path, p.fd+"/")
		if !below || p.fd == "" { // it is a descriptor of the task's itself
			return unix.Openat(dir, path, flags, 0)
		}
		at, err := unix.Openat(dir, p.fd, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, err
		}
		defer unix.Close(at)
		dir, path = at, cmp.Or(rest, ".")
	}
	return unix.Openat2(dir, path, &unix.OpenHow{Flags: uint64(flags), Resolve: unix.RESOLVE_NO_MAGICLINKS})
}

// parent opens the directory of what p names, and returns that with the last name in it, slashes behind that included.
func (t *task) parent(p place) (dir int, name string, err error) {
	end := strings.LastIndexByte(strings.TrimRight(p.path, "/"), '/') + 1
	dir, err = t.open(p, cmp.Or(p.path[:end], "."), unix.O_DIRECTORY)
	return dir, p.path[end:], err
}

func must(n string) int { i, _ := strconv.Atoi(n); return i }

// base is the directory fd in /proc/PID.
func (t *task) base(fd int) string {
	if fd == unix.AT_FDCWD {
		return "cwd"
	}
	return "fd/" + strconv.Itoa(fd)
}

// of is a name in the task's directory of /proc.
func (t *task) of(name string) string { return t.Of(t.pid, name) }

// descriptor tells what goes through one of the caller's descriptors: this thread's /proc/self is another.
func descriptor(path string) (fd, rest string, ok bool) {
	for i, std := range []string{"/dev/stdin", "/dev/stdout", "/dev/stderr"} {
		if path == std {
			return strconv.Itoa(i), "", true
		}
	}
	for _, dir := range []string{"/proc/self/fd/", "/dev/fd/"} {
		if s, found := strings.CutPrefix(path, dir); found {
			fd, rest, _ = strings.Cut(s, "/")
			n, err := strconv.ParseUint(fd, 10, 31)
			return fd, rest, err == nil && strconv.FormatUint(n, 10) == fd
		}
	}
	return "", "", false
}

// enter gives this thread the task's root.
func (t *task) enter() error {
	_, err := t.Enter(t.pid)
	return err
}

// umask returns the task's.
func (t *task) umask() (uint32, error) {
	s, err := t.Status(t.pid)
	if err != nil {
		return 0, err
	}
	n, err := s.Number("Umask", 8)
	return uint32(n), err
}

// has reports whether one of the task's effective capabilities is c.
func (t *task) has(c int) (bool, error) {
	s, err := t.Status(t.pid)
	if err != nil {
		return false, err
	}
	return s.Has(c)
}
