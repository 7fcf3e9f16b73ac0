//go:build linux

package owners

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

func oldStats(name string) map[string]func(*unix.Stat_t) error {
	old := func(nr uintptr) func(s *unix.Stat_t) error {
		return func(s *unix.Stat_t) error {
			p, err := unix.BytePtrFromString(name)
			if err != nil {
				return err
			}
			return raw(nr, uintptr(unsafe.Pointer(p)), uintptr(unsafe.Pointer(s)))
		}
	}
	m := map[string]func(*unix.Stat_t) error{"lstat": old(unix.SYS_LSTAT)}
	var s unix.Stat_t
	if unix.Lstat(name, &s) == nil && s.Mode&unix.S_IFMT != unix.S_IFLNK {
		m["stat"] = old(unix.SYS_STAT)
	}
	return m
}

// int80 makes a system call of i386.
func int80(nr uint32, a ...uint32) error {
	c := &closure{}
	c.regs[0] = nr
	copy(c.regs[1:], a)
	code := must1(unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE))
	copy(code, []byte{
		0x49, 0x89, 0xd4, // mov r12, rdx: the closure
		0x41, 0x8b, 0x44, 0x24, 0x08, // mov eax, [r12+8]
		0x41, 0x8b, 0x5c, 0x24, 0x0c, // mov ebx, [r12+12]
		0x41, 0x8b, 0x4c, 0x24, 0x10, // mov ecx, [r12+16]
		0x41, 0x8b, 0x54, 0x24, 0x14, // mov edx, [r12+20]
		0x41, 0x8b, 0x74, 0x24, 0x18, // mov esi, [r12+24]
		0x41, 0x8b, 0x7c, 0x24, 0x1c, // mov edi, [r12+28]
		0xcd, 0x80, // int 0x80
		0x41, 0x89, 0x44, 0x24, 0x20, // mov [r12+32], eax
		0xc3, // ret
	})
	must0(unix.Mprotect(code, unix.PROT_READ|unix.PROT_EXEC))
	defer unix.Munmap(code)
	c.code = uintptr(unsafe.Pointer(&code[0]))
	(*(*func())(unsafe.Pointer(&c)))()
	if c.result < 0 && c.result > -4096 {
		return unix.Errno(-c.result)
	}
	return nil
}

// closure is what a func of Go's points to: its code, and what the code finds by rdx.
type closure struct {
	code   uintptr
	regs   [6]uint32
	result int32
}

// i386Program is a 64-bit program that makes the calls of a 32-bit one. Real root's i386 has the old ones too.
func i386Program(args []string) {
	low := must1(unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_32BIT))
	at := uint32(uintptr(unsafe.Pointer(&low[0])))
	buf := low[1024:]
	touch("file", 0o6755)
	must0(unix.Symlink("file", "link"))
	copy(low, "file\x00link\x00")
	file, link, cwd := at, at+5, uint32(1<<32+unix.AT_FDCWD)
	stat := func(label string, nr uint32, a ...uint32) {
		clear(buf[:512])
		err := int80(nr, a...)
		u32 := func(i int) uint32 { return *(*uint32)(unsafe.Pointer(&buf[i])) }
		say(fmt.Sprintf("%s %o %d:%d link %d size %d, ino %t", label, u32(16), u32(24), u32(28), u32(20), u32(44),
			u32(12) != 0 && u32(12) == u32(88)), err)
	}
	say("chown32", int80(212, file, 33, 34))
	stat("stat64", 195, file, at+1024)
	say("lchown32", int80(198, link, 35, 36))
	stat("lstat64", 196, link, at+1024)
	fd := uint32(must1(unix.Open("file", unix.O_RDONLY|unix.O_CLOEXEC, 0)))
	say("fchown32", int80(207, fd, 37, 38))
	stat("fstat64", 197, fd, at+1024)
	say("fchownat", int80(298, cwd, link, 39, 40, noFollow))
	stat("fstatat64", 300, cwd, link, at+1024, noFollow)
	stat("fstat64 of none", 197, 999, at+1024)
	clear(buf[:512])
	say("statx", int80(383, cwd, file, 0, unix.STATX_BASIC_STATS))
	say("chown32 at a bad pointer", int80(212, 1, 33, 34))
	say("setresgid32", int80(210, 7, 8, 9))
	say("setresuid32", int80(208, 7, 8, 9))
	say("getresuid32", int80(209, at+1024, at+1028, at+1032))
	fmt.Println(buf[0], buf[4], buf[8])
	who("i386")
	if len(args) > 0 {
		for _, nr := range compatGone {
			say(fmt.Sprint("old ", nr), int80(nr, file, 1, 1))
		}
	}
}

func init() {
	golden["i386"] = func() { i386Program(nil) }
	programs["i386-old"] = func([]string) { i386Program([]string{"old"}) }
	programs[i386Probe] = func([]string) { must0(int80(20)) } // getpid, whose result is no error
}
