//go:build linux && (amd64 || arm64)

package owners

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

type args = [6]uint64

// cwd is AT_FDCWD as a register has it.
const cwd uint64 = 1<<64 + unix.AT_FDCWD

// call is a system call that is answered: its number, when, and how.
type call struct {
	nr   uint32
	when when
	do   func(*task, args) answer
}

// when is what a filter can see of a call: all of them, or those whose argument is the mode of a device.
type when struct{ mode int }

var always = when{-1}

func devices(arg int) when { return when{arg} }

// common are the calls that every 64-bit architecture has.
var common = []call{
	{unix.SYS_FCHOWN, always, func(t *task, a args) answer { return t.fchown(a[0], a[1], a[2]) }},
	{unix.SYS_FCHOWNAT, always, func(t *task, a args) answer { return t.chown(a[0], a[1], a[4], a[2], a[3]) }},
	{unix.SYS_FSTAT, always, func(t *task, a args) answer { return t.fstat(a[0], a[1], nativeStat) }},
	{unix.SYS_STATX, always, func(t *task, a args) answer { return t.statx(a[0], a[1], a[2], a[3], a[4]) }},
	{unix.SYS_MKNODAT, devices(2), func(t *task, a args) answer { return t.mknod(a[0], a[1], a[2], a[3]) }},
}

// nativeStat lays out struct stat.
func nativeStat(x *unix.Statx_t) []byte {
	s := unix.Stat_t{
		Dev: unix.Mkdev(x.Dev_major, x.Dev_minor), Ino: x.Ino,
		Mode: uint32(x.Mode), Uid: x.Uid, Gid: x.Gid, Rdev: unix.Mkdev(x.Rdev_major, x.Rdev_minor),
		Size: int64(x.Size), Blocks: int64(x.Blocks),
		Atim: timespec(x.Atime), Mtim: timespec(x.Mtime), Ctim: timespec(x.Ctime),
	}
	setNarrow(&s.Nlink, x.Nlink)
	setNarrow(&s.Blksize, x.Blksize)
	return unsafe.Slice((*byte)(unsafe.Pointer(&s)), unsafe.Sizeof(s))
}

// setNarrow sets a field whose width is the architecture's.
func setNarrow[T int32 | int64 | uint32 | uint64](field *T, v uint32) { *field = T(v) }

func timespec(t unix.StatxTimestamp) unix.Timespec {
	return unix.Timespec{Sec: t.Sec, Nsec: int64(t.Nsec)}
}
