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

// when are the values of an argument's bits with which a call is answered; none: always.
type when struct {
	arg    int
	bits   uint32
	values []uint32
}

var always when

// creates are the flags with which open may make a file.
func creates(arg int) when { return when{arg, unix.O_CREAT, []uint32{unix.O_CREAT}} }

var keepCaps = when{0, ^uint32(0), []uint32{unix.PR_SET_KEEPCAPS}}

// common are the calls that every 64-bit architecture has.
var common = []call{
	{unix.SYS_FCHOWN, always, func(t *task, a args) answer { return t.fchown(a[0], a[1], a[2]) }},
	{unix.SYS_FCHOWNAT, always, func(t *task, a args) answer { return t.chown(a[0], a[1], a[4], a[2], a[3]) }},
	{unix.SYS_FSTAT, always, func(t *task, a args) answer { return t.fstat(a[0], a[1], nativeStat) }},
	{unix.SYS_STATX, always, func(t *task, a args) answer { return t.statx(a[0], a[1], a[2], a[3], a[4]) }},
	{unix.SYS_SETUID, always, setUID(users)},
	{unix.SYS_SETGID, always, setUID(groups)},
	{unix.SYS_SETREUID, always, setIDs(users, setReal)},
	{unix.SYS_SETREGID, always, setIDs(groups, setReal)},
	{unix.SYS_SETRESUID, always, setIDs(users, setAll)},
	{unix.SYS_SETRESGID, always, setIDs(groups, setAll)},
	{unix.SYS_SETFSUID, always, setFiles(users)},
	{unix.SYS_SETFSGID, always, setFiles(groups)},
	{unix.SYS_SETGROUPS, always, func(t *task, a args) answer { return t.setGroups(a[0], a[1]) }},
	{unix.SYS_PRCTL, keepCaps, func(t *task, a args) answer { return t.keepCaps(a[1]) }},
	{unix.SYS_GETUID, always, get(users, realID)},
	{unix.SYS_GETEUID, always, get(users, effectiveID)},
	{unix.SYS_GETGID, always, get(groups, realID)},
	{unix.SYS_GETEGID, always, get(groups, effectiveID)},
	{unix.SYS_GETRESUID, always, getAll(users)},
	{unix.SYS_GETRESGID, always, getAll(groups)},
	{unix.SYS_GETGROUPS, always, func(t *task, a args) answer { return t.getGroups(a[0], a[1]) }},
	{unix.SYS_MKNODAT, always, func(t *task, a args) answer { return t.mknod(a[0], a[1], a[2], a[3]) }},
	{unix.SYS_MKDIRAT, always, func(t *task, a args) answer { return t.mkdir(a[0], a[1], a[2]) }},
	{unix.SYS_SYMLINKAT, always, func(t *task, a args) answer { return t.symlink(a[0], a[1], a[2]) }},
	{unix.SYS_OPENAT, creates(2), func(t *task, a args) answer { return t.openNew(a[0], a[1], a[2], a[3]) }},
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
