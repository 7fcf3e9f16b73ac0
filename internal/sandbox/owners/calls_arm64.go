//go:build linux

package owners

import "golang.org/x/sys/unix"

const nativeArch = unix.AUDIT_ARCH_AARCH64

var native = append([]call{
	{unix.SYS_FSTATAT, always, func(t *task, a args) answer { return t.stat(a[0], a[1], a[3], a[2], nativeStat) }},
}, common...)

// 32-bit programs are not run: every call of theirs is told that it is not there.
const compatArch = 0

const x32 = 0

var (
	compat     []call
	compatGone []uint32
)
