//go:build linux && (amd64 || arm64)

package owners

import (
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// create answers a call that makes a file, which is its maker's, or its directory's group's. It leaves to the kernel
// what needs no entry in the book, and what it cannot make: a file that is there, in the first place.
func (t *task) create(dir, ptr uint64, mode uint64, do func(dir int, name string, mode uint32) error) answer {
	who, err := t.ids()
	if err != nil {
		return kernels
	}
	uid, gid, first := who.users.files, who.groups.files, t.book.people[0]
	plain := uid == first.users.files && gid == first.groups.files
	if plain && !t.book.groups.Load() {
		return kernels
	}
	p, err := t.find(dir, ptr, 0)
	if err != nil {
		return kernels
	}
	fd, name, err := t.parent(p)
	if err != nil {
		return kernels
	}
	defer unix.Close(fd)
	if last := strings.TrimRight(name, "/"); last == "" || last == "." || last == ".." { // mkdir may end in a slash
		return kernels
	}
	var x unix.Statx_t
	if err := t.book.Statx(fd, "", emptyPath, unix.STATX_BASIC_STATS, &x); err != nil {
		return kernels
	}
	if x.Mode&unix.S_ISGID != 0 {
		gid = x.Gid
	}
	if uid == first.users.files && gid == first.groups.files {
		return kernels
	}
	umask, err := t.umask()
	if err != nil || !t.alive() || do(fd, name, uint32(mode)&^umask) != nil {
		return kernels
	}
	if err := t.book.Chown(fd, name, noFollow, uid, gid); err != nil {
		return failed(err)
	}
	return answer{}
}

func (t *task) mkdir(dir, ptr, mode uint64) answer {
	return t.create(dir, ptr, mode, unix.Mkdirat)
}

func (t *task) symlink(target, dir, ptr uint64) answer {
	to, err := t.readPath(target)
	if err != nil {
		return kernels
	}
	return t.create(dir, ptr, 0, func(dir int, name string, _ uint32) error {
		return unix.Symlinkat(to, dir, name)
	})
}

// mkfile is mknod of what is no device.
func (t *task) mkfile(dir, ptr, mode uint64) answer {
	return t.create(dir, ptr, mode, func(dir int, name string, perm uint32) error {
		return unix.Mknodat(dir, name, perm, 0)
	})
}

// openNew makes the file that an open is asked to make, and hands it over as it was opened here.
func (t *task) openNew(dir, ptr, flags, mode uint64) answer {
	if flags&unix.O_PATH != 0 { // which makes no file
		return kernels
	}
	fd := -1
	a := t.create(dir, ptr, mode&0o7777, func(dir int, name string, perm uint32) (err error) {
		fd, err = unix.Openat(dir, name, int(uint32(flags))|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, perm)
		return err
	})
	if fd < 0 {
		return a
	}
	defer unix.Close(fd)
	if a.errno != 0 {
		return a
	}
	hand := addFD{id: t.id, src: uint32(fd), newFlags: uint32(flags) & unix.O_CLOEXEC}
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(t.listener), unix.SECCOMP_IOCTL_NOTIF_ADDFD,
		uintptr(unsafe.Pointer(&hand)))
	if errno != 0 {
		return failed(errno)
	}
	return answer{val: int64(n)}
}

// addFD is struct seccomp_notif_addfd.
type addFD struct {
	id                        uint64
	flags, src, new, newFlags uint32
}
