//go:build linux && (amd64 || arm64)

package owners

import (
	"bytes"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

var (
	byNumber       = index(native)
	byCompatNumber = index(compat)
)

func index(calls []call) map[uint32]func(*task, args) answer {
	m := map[uint32]func(*task, args) answer{}
	for _, c := range calls {
		m[c.nr] = c.do
	}
	return m
}

func (w *worker) handle(n *notification) answer {
	do := byNumber[n.nr]
	if n.arch != nativeArch {
		do = byCompatNumber[n.nr]
	}
	if do == nil {
		return failed(unix.ENOSYS)
	}
	return do(&task{w, n.id, int(n.pid)}, n.args)
}

func (t *task) chown(dir, ptr, flags, uid, gid uint64) answer {
	if flags&^(noFollow|emptyPath) != 0 {
		return failed(unix.EINVAL)
	}
	p, err := t.find(dir, ptr, flags)
	if err != nil {
		return failed(err)
	}
	how := 0
	if p.flags&noFollow != 0 {
		how = unix.O_NOFOLLOW
	}
	fd, err := t.open(p, p.path, how)
	if err == unix.ENOENT && p.fd != "" && unix.Faccessat(t.Proc, p.fd, unix.F_OK, noFollow) != nil {
		err = unix.EBADF
	}
	if err != nil {
		return failed(err)
	}
	defer unix.Close(fd)
	who, err := t.ids()
	if err != nil {
		return failed(err)
	}
	if !t.alive() {
		return failed(unix.ESRCH)
	}
	if err := t.book.give(fd, who, uint32(uid), uint32(gid)); err != nil {
		return failed(err)
	}
	return answer{}
}

func (t *task) fchown(fd, uid, gid uint64) answer {
	// A descriptor of O_PATH is none to fchown.
	info, err := t.Read(t.pid, "fdinfo/"+strconv.Itoa(int(int32(fd))))
	if err != nil {
		return failed(unix.EBADF)
	}
	_, rest, _ := bytes.Cut(info, []byte("flags:\t"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	if f, err := strconv.ParseUint(string(line), 8, 64); err != nil || f&unix.O_PATH != 0 {
		return failed(unix.EBADF)
	}
	return t.chown(fd, 0, emptyPath, uid, gid)
}

// stat answers for a file in the book; for others the kernel does.
func (t *task) stat(dir, ptr, flags, buf uint64, layout func(*unix.Statx_t) []byte) answer {
	var x unix.Statx_t
	if !t.known(dir, ptr, flags, unix.STATX_BASIC_STATS, &x) {
		return kernels
	}
	if err := t.write(buf, layout(&x)); err != nil {
		return failed(err)
	}
	return answer{}
}

func (t *task) fstat(fd, buf uint64, layout func(*unix.Statx_t) []byte) answer {
	if int32(fd) < 0 {
		return kernels
	}
	return t.stat(fd, 0, emptyPath, buf, layout)
}

func (t *task) statx(dir, ptr, flags, mask, buf uint64) answer {
	var x unix.Statx_t
	if !t.known(dir, ptr, flags, int(mask), &x) {
		return kernels
	}
	if err := t.write(buf, unsafe.Slice((*byte)(unsafe.Pointer(&x)), unsafe.Sizeof(x))); err != nil {
		return failed(err)
	}
	return answer{}
}

// known fills x for a file in the book.
func (t *task) known(dir, ptr, flags uint64, mask int, x *unix.Statx_t) bool {
	p, err := t.find(dir, ptr, flags)
	if err != nil {
		return false
	}
	other := int(flags) &^ (noFollow | emptyPath)
	if unix.Statx(p.dir, p.path, other|p.flags, mask|identity, x) != nil {
		return false
	}
	return t.book.correct(x, mask)
}

func (t *task) mknod(dir, ptr, mode, dev uint64) answer {
	if kind := mode & unix.S_IFMT; kind != unix.S_IFCHR && kind != unix.S_IFBLK {
		return t.mkfile(dir, ptr, mode)
	}
	p, err := t.find(dir, ptr, 0)
	if err != nil {
		return failed(err)
	}
	who, err := t.ids()
	if err != nil {
		return failed(err)
	}
	may, err := t.has(unix.CAP_MKNOD)
	if err != nil {
		return failed(err)
	}
	if !may || !t.book.powerful(who) {
		return failed(unix.EPERM)
	}
	umask, err := t.umask()
	if err != nil {
		return failed(err)
	}
	if !t.alive() {
		return failed(unix.ESRCH)
	}
	fd, name, err := t.parent(p)
	if err != nil {
		return failed(err)
	}
	defer unix.Close(fd)
	if err := t.book.Mknod(fd, name, uint32(mode)&^umask, dev); err != nil {
		return failed(err)
	}
	return answer{}
}
