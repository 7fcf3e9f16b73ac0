//go:build linux && (amd64 || arm64)

package owners

import (
	"bytes"
	"cmp"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
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

const page = 4096 // the smallest there is

// readPath reads a path of the task's memory. Like the kernel it reads no page behind the end of the path.
func (t *task) readPath(ptr uint64) (string, error) {
	buf := t.buf[:]
	for n := 0; n < len(buf); {
		chunk := buf[n:min(len(buf), n+min(page-int(ptr&(page-1)), 256+15*n))] // few are longer than 256
		if err := t.read(ptr, chunk); err != nil {
			return "", err
		}
		if i := bytes.IndexByte(chunk, 0); i >= 0 {
			return string(buf[:n+i]), nil
		}
		n, ptr = n+len(chunk), ptr+uint64(len(chunk))
	}
	return "", unix.ENAMETOOLONG
}

// read fills b from the task's memory.
func (t *task) read(ptr uint64, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	n, err := unix.ProcessVMReadv(t.pid, iovec(b), []unix.RemoteIovec{{Base: uintptr(ptr), Len: len(b)}}, 0)
	if err != nil || n != len(b) {
		return unix.EFAULT
	}
	return nil
}

// write puts b into the task's memory.
func (t *task) write(ptr uint64, b []byte) error {
	if !t.alive() {
		return unix.ESRCH
	}
	n, err := unix.ProcessVMWritev(t.pid, iovec(b), []unix.RemoteIovec{{Base: uintptr(ptr), Len: len(b)}}, 0)
	if err != nil || n != len(b) {
		return unix.EFAULT
	}
	return nil
}

func iovec(b []byte) []unix.Iovec {
	v := unix.Iovec{Base: &b[0]}
	v.SetLen(len(b))
	return []unix.Iovec{v}
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
			return place{t.proc, t.of("fd/" + n), 0, ""}, nil
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
		return place{t.proc, base, 0, base}, nil
	}
	if err := t.enter(); err != nil { // as far as .. goes, and for symbolic links
		return place{}, err
	}
	if p := base + "/" + path; len(p) < unix.PathMax {
		return place{t.proc, p, f, base}, nil
	}
	// Together they are too long: this thread goes there itself.
	at, err := unix.Openat(t.proc, base, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
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
	if dir == t.proc {
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
func (t *task) of(name string) string { return strconv.Itoa(t.pid) + "/" + name }

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
	name := t.of("root")
	var x unix.Statx_t
	if err := unix.Statx(t.proc, name, 0, unix.STATX_INO|unix.STATX_MNT_ID, &x); err != nil {
		return err
	}
	is := root{x.Mnt_id, inodeOf(&x)}
	if is == t.root {
		return nil
	}
	fd, err := unix.Openat(t.proc, name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Fchdir(fd); err != nil {
		return err
	}
	t.root = root{}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	t.root = is
	return nil
}

// root names the root of a thread. While a thread has it, no other directory gets its name.
type root struct {
	mount uint64
	inode inode
}

// umask returns the task's.
func (t *task) umask() (uint32, error) {
	n, err := t.status("Umask", 8)
	return uint32(n), err
}

// has reports whether one of the task's effective capabilities is c.
func (t *task) has(c int) (bool, error) {
	n, err := t.status("CapEff", 16)
	return n>>c&1 == 1, err
}

// status is a number of /proc/PID/status, which is to a base there.
func (t *task) status(name string, base int) (uint64, error) {
	b, err := t.readProc("status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(b, []byte("\n"+name+":\t"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	return strconv.ParseUint(string(line), base, 64)
}

func (t *task) readProc(name string) ([]byte, error) {
	fd, err := unix.Openat(t.proc, t.of(name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	b := make([]byte, 4096)
	n, err := f.Read(b)
	return b[:n], err
}
