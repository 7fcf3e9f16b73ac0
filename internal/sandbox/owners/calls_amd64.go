//go:build linux

package owners

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

const nativeArch = unix.AUDIT_ARCH_X86_64

// x32 is the bit of the numbers of x32's calls, which are refused.
const x32 = 0x40000000

var native = append([]call{
	{unix.SYS_CHOWN, always, func(t *task, a args) answer { return t.chown(cwd, a[0], 0, a[1], a[2]) }},
	{unix.SYS_LCHOWN, always, func(t *task, a args) answer { return t.chown(cwd, a[0], noFollow, a[1], a[2]) }},
	{unix.SYS_STAT, always, func(t *task, a args) answer { return t.stat(cwd, a[0], 0, a[1], nativeStat) }},
	{unix.SYS_LSTAT, always, func(t *task, a args) answer { return t.stat(cwd, a[0], noFollow, a[1], nativeStat) }},
	{unix.SYS_NEWFSTATAT, always, func(t *task, a args) answer { return t.stat(a[0], a[1], a[3], a[2], nativeStat) }},
	{unix.SYS_MKNOD, always, func(t *task, a args) answer { return t.mknod(cwd, a[0], a[1], a[2]) }},
	{unix.SYS_MKDIR, always, func(t *task, a args) answer { return t.mkdir(cwd, a[0], a[1]) }},
	{unix.SYS_SYMLINK, always, func(t *task, a args) answer { return t.symlink(a[0], cwd, a[1]) }},
	{unix.SYS_OPEN, creates(1), func(t *task, a args) answer { return t.openNew(cwd, a[0], a[1], a[2]) }},
	{unix.SYS_CREAT, always, func(t *task, a args) answer { return t.openNew(cwd, a[0], creat, a[1]) }},
}, common...)

// creat is what creat(2) opens with.
const creat = unix.O_CREAT | unix.O_WRONLY | unix.O_TRUNC

const compatArch = unix.AUDIT_ARCH_I386

// compat are i386's. What no program of this century calls (16 bits of id, the old stat) is told that it is not there.
var compat = []call{
	{212, always, func(t *task, a args) answer { return t.chown(cwd, a[0], 0, a[1], a[2]) }},        // chown32
	{198, always, func(t *task, a args) answer { return t.chown(cwd, a[0], noFollow, a[1], a[2]) }}, // lchown32
	{207, always, func(t *task, a args) answer { return t.fchown(a[0], a[1], a[2]) }},               // fchown32
	{298, always, func(t *task, a args) answer { return t.chown(a[0], a[1], a[4], a[2], a[3]) }},    // fchownat
	{195, always, func(t *task, a args) answer { return t.stat(cwd, a[0], 0, a[1], stat64) }},
	{196, always, func(t *task, a args) answer { return t.stat(cwd, a[0], noFollow, a[1], stat64) }}, // lstat64
	{197, always, func(t *task, a args) answer { return t.fstat(a[0], a[1], stat64) }},
	{300, always, func(t *task, a args) answer { return t.stat(a[0], a[1], a[3], a[2], stat64) }}, // fstatat64
	{383, always, func(t *task, a args) answer { return t.statx(a[0], a[1], a[2], a[3], a[4]) }},
	{199, always, get(users, realID)},                                              // getuid32
	{201, always, get(users, effectiveID)},                                         // geteuid32
	{200, always, get(groups, realID)},                                             // getgid32
	{202, always, get(groups, effectiveID)},                                        // getegid32
	{209, always, getAll(users)},                                                   // getresuid32
	{211, always, getAll(groups)},                                                  // getresgid32
	{205, always, func(t *task, a args) answer { return t.getGroups(a[0], a[1]) }}, // getgroups32
	{213, always, setUID(users)},                                                   // setuid32
	{214, always, setUID(groups)},                                                  // setgid32
	{203, always, setIDs(users, setReal)},                                          // setreuid32
	{204, always, setIDs(groups, setReal)},                                         // setregid32
	{208, always, setIDs(users, setAll)},                                           // setresuid32
	{210, always, setIDs(groups, setAll)},                                          // setresgid32
	{215, always, setFiles(users)},                                                 // setfsuid32
	{216, always, setFiles(groups)},                                                // setfsgid32
	{206, always, func(t *task, a args) answer { return t.setGroups(a[0], a[1]) }}, // setgroups32
	{172, keepCaps, func(t *task, a args) answer { return t.keepCaps(a[1]) }},      // prctl
	{14, always, func(t *task, a args) answer { return t.mknod(cwd, a[0], a[1], a[2]) }},
	{297, always, func(t *task, a args) answer { return t.mknod(a[0], a[1], a[2], a[3]) }},
	{39, always, func(t *task, a args) answer { return t.mkdir(cwd, a[0], a[1]) }},
	{296, always, func(t *task, a args) answer { return t.mkdir(a[0], a[1], a[2]) }}, // mkdirat
	{83, always, func(t *task, a args) answer { return t.symlink(a[0], cwd, a[1]) }},
	{304, always, func(t *task, a args) answer { return t.symlink(a[0], a[1], a[2]) }}, // symlinkat
	{5, creates(1), func(t *task, a args) answer { return t.openNew(cwd, a[0], a[1], a[2]) }},
	{8, always, func(t *task, a args) answer { return t.openNew(cwd, a[0], creat, a[1]) }},
	{295, creates(2), func(t *task, a args) answer { return t.openNew(a[0], a[1], a[2], a[3]) }}, // openat
}

// compatGone are chown, lchown and fchown of 16 bits, the stats, lstats and fstats before stat64, and
// 16 bits' get and set of user and group: real, effective, groups, of files, and all of them.
var compatGone = []uint32{182, 16, 95, 18, 84, 28, 106, 107, 108,
	24, 47, 49, 50, 23, 46, 70, 71, 80, 81, 138, 139, 164, 165, 170, 171}

// stat64 lays out i386's struct stat64 (arch/x86/include/uapi/asm/stat.h).
func stat64(x *unix.Statx_t) []byte {
	b := make([]byte, 0, 96)
	u32, u64 := binary.LittleEndian.AppendUint32, binary.LittleEndian.AppendUint64
	b = u64(b, unix.Mkdev(x.Dev_major, x.Dev_minor))
	b = u32(u32(b, 0), uint32(x.Ino))
	b = u32(u32(u32(u32(b, uint32(x.Mode)), x.Nlink), x.Uid), x.Gid)
	b = u64(b, unix.Mkdev(x.Rdev_major, x.Rdev_minor))
	b = u32(b, 0)
	b = u32(u64(b, x.Size), x.Blksize)
	b = u64(b, x.Blocks)
	for _, t := range []unix.StatxTimestamp{x.Atime, x.Mtime, x.Ctime} {
		b = u32(u32(b, uint32(t.Sec)), t.Nsec)
	}
	return u64(b, x.Ino)
}
