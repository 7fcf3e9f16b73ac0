//go:build linux && (amd64 || arm64)

package owners

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// golden are programs that print the same as real root and under the filter. They start in an empty directory.
var golden = map[string]func(){
	"chown":   chownProgram,
	"errors":  errorsProgram,
	"devices": devicesProgram,
	"tools":   toolsProgram,
	"chroot":  chrootProgram,
	"create":  createProgram,
	"ids":     func() { idsProgram(nil) },
}

// programs are others, with arguments.
var programs = map[string]func(args []string){"bench": benchProgram, "ids": idsProgram}

func program(name string, args []string) int {
	if p, ok := golden[name]; ok && len(args) == 0 {
		p()
		return 0
	}
	programs[name](args)
	return 0
}

// say prints a label and an error's name.
func say(label string, err error) {
	word := "done"
	var errno unix.Errno
	if errors.As(err, &errno) {
		word = unix.ErrnoName(errno)
	} else if err != nil {
		word = err.Error()
	}
	fmt.Printf("%s: %s\n", label, word)
}

func must0(err error) {
	if err != nil {
		panic(err)
	}
}

func touch(name string, mode uint32) {
	fd, err := unix.Open(name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, mode)
	must0(err)
	must0(unix.Fchmod(fd, mode))
	must0(unix.Close(fd))
}

// show prints what all calls of the stat family say of a file, which is one thing.
func show(label, name string) {
	seen := map[string]string{}
	note := func(how string, mode, uid, gid uint32, rdev, size uint64, err error) {
		s := fmt.Sprintf("%o %d:%d %d,%d size %d", mode, uid, gid, unix.Major(rdev), unix.Minor(rdev), size)
		if mode&unix.S_IFMT == unix.S_IFDIR {
			s, _, _ = strings.Cut(s, " size") // file systems differ
		}
		if err != nil {
			s = unix.ErrnoName(err.(unix.Errno))
		}
		seen[s] += " " + how
	}
	for how, stat := range stats(name) {
		var s unix.Stat_t
		err := stat(&s)
		note(how, s.Mode, s.Uid, s.Gid, s.Rdev, uint64(s.Size), err)
	}
	var x unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, name, noFollow, unix.STATX_BASIC_STATS, &x)
	note("statx", uint32(x.Mode), x.Uid, x.Gid, unix.Mkdev(x.Rdev_major, x.Rdev_minor), x.Size, err)
	for s, how := range seen {
		if len(seen) == 1 {
			how = ""
		}
		fmt.Printf("%s: %s%s\n", label, s, how)
	}
}

// stats are the calls that fill a struct stat, and follow no link.
func stats(name string) map[string]func(*unix.Stat_t) error {
	m := map[string]func(*unix.Stat_t) error{
		"fstatat": func(s *unix.Stat_t) error { return unix.Fstatat(unix.AT_FDCWD, name, s, noFollow) },
		"fstat": func(s *unix.Stat_t) error {
			fd, err := unix.Open(name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return raw(unix.SYS_FSTAT, uintptr(fd), uintptr(unsafe.Pointer(s)))
		},
		"fstatat empty": func(s *unix.Stat_t) error {
			fd, err := unix.Open(name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Fstatat(fd, "", s, emptyPath)
		},
		"fstatat dirfd": func(s *unix.Stat_t) error {
			dir, err := unix.Open(filepath.Dir(name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(dir)
			return unix.Fstatat(dir, filepath.Base(name), s, noFollow)
		},
	}
	for how, stat := range oldStats(name) {
		m[how] = stat
	}
	return m
}

func raw(nr uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	if _, _, errno := unix.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
		return errno
	}
	return nil
}

func chownProgram() {
	here, err := os.Getwd()
	must0(err)
	n := 0
	file := func(mode uint32) string {
		n++
		name := fmt.Sprintf("f%d", n)
		touch(name, mode)
		return name
	}

	f := file(0o644)
	show("new", f)
	say("chown", unix.Chown(f, 33, 44))
	show("both", f)
	say("chown", unix.Chown(f, -1, 55))
	show("group alone", f)
	say("chown", unix.Chown(here+"/"+f, 66, -1))
	show("user alone, absolute", f)
	say("chown", unix.Chown(f, 4000000000, 4000000001))
	show("large", f)
	say("chown", unix.Chown(f, 0, 0))
	show("root again", f)

	must0(unix.Symlink(f, "link"))
	say("lchown", unix.Lchown("link", 1, 2))
	show("link", "link")
	show("its target", f)
	say("chown through the link", unix.Chown("link", 3, 4))
	show("link", "link")
	show("its target", f)
	say("fchownat nofollow", unix.Fchownat(unix.AT_FDCWD, "link", 5, 6, noFollow))
	show("link", "link")
	show("its target", f)

	must0(unix.Mkdir("dir", 0o755))
	must0(unix.Mkdir("dir/sub", 0o2755))
	say("chown directory", unix.Chown("dir/sub", 7, 8))
	show("directory", "dir/sub")
	show("through ..", "dir/sub/../sub")
	say("chown", unix.Chown("dir/sub/../../"+f, 9, 10))
	show("through ..", f)
	must0(unix.Symlink(here+"/dir", "absolute"))
	show("through an absolute link", "absolute/sub")

	dir, err := unix.Open("dir", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must0(err)
	touch("dir/g", 0o600)
	say("fchownat dirfd", unix.Fchownat(dir, "g", 11, 12, 0))
	show("of a directory's descriptor", "dir/g")
	say("fchownat empty", unix.Fchownat(dir, "", 13, 14, emptyPath))
	show("the directory itself", "dir")
	must0(unix.Chdir("dir"))
	say("fchownat empty cwd", unix.Fchownat(unix.AT_FDCWD, "", 15, 16, emptyPath))
	show("the working directory", "../dir")
	say("chown .", unix.Chown(".", 17, 18))
	show("dot", ".")
	must0(unix.Chdir(".."))

	fd, err := unix.Open(f, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must0(err)
	say("fchown", unix.Fchown(fd, 19, 20))
	show("by descriptor", f)
	say("chown /proc/self/fd", unix.Chown(fmt.Sprintf("/proc/self/fd/%d", fd), 21, 22))
	show("by /proc/self/fd", f)
	say("chown /dev/fd", unix.Chown(fmt.Sprintf("/dev/fd/%d", fd), 23, 24))
	show("by /dev/fd", f)
	show("below /proc/self/fd", fmt.Sprintf("/proc/self/fd/%d/g", dir))
	path, err := unix.Open(f, unix.O_PATH|unix.O_CLOEXEC, 0)
	must0(err)
	say("fchown O_PATH", unix.Fchown(path, 25, 26))
	say("fchownat empty O_PATH", unix.Fchownat(path, "", 27, 28, emptyPath))
	show("by a descriptor of O_PATH", f)

	must0(unix.Link(f, "hard"))
	show("hard link", "hard")
	say("chown", unix.Chown("hard", 29, 30))
	show("the first name", f)
	must0(unix.Rename("hard", "renamed"))
	show("renamed", "renamed")
	must0(unix.Unlink(f))
	must0(unix.Unlink("renamed"))
	var s unix.Stat_t
	say("fchown unlinked", unix.Fchown(fd, 31, 32))
	must0(raw(unix.SYS_FSTAT, uintptr(fd), uintptr(unsafe.Pointer(&s))))
	fmt.Println("unlinked:", s.Uid, s.Gid)
	must0(unix.Mkdir("gone", 0o755))
	must0(unix.Chdir("gone"))
	must0(unix.Rmdir("../gone"))
	say("chown in a directory that is gone", unix.Chown("x", 1, 1))
	say("chown the directory that is gone", unix.Chown(".", 1, 2))
	show("it", ".")
	must0(unix.Chdir(here))

	for _, mode := range []uint32{0o4755, 0o2755, 0o6755, 0o6711, 0o6745, 0o4644, 0o2644, 0o6644, 0o1755} {
		for _, ids := range [][2]int{{1, 1}, {0, 0}, {-1, -1}} {
			f := file(mode)
			say("chown", unix.Chown(f, ids[0], ids[1]))
			show(fmt.Sprintf("mode %o chown %d:%d", mode, ids[0], ids[1]), f)
		}
	}
	must0(unix.Mkdir("setid", 0))
	must0(unix.Chmod("setid", 0o6775))
	say("chown", unix.Chown("setid", 1, 1))
	show("set-id bits of a directory", "setid")
	f = file(0o755)
	say("chown", unix.Chown(f, 0, 42))
	must0(unix.Chmod(f, 0o2755))
	show("set-group-id of another's group", f)

	// ping's: cap_net_raw=ep, version 2.
	ping := []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	f = file(0o755)
	say("set capability", unix.Setxattr(f, "security.capability", ping, 0))
	got := make([]byte, 64)
	size, err := unix.Getxattr(f, "security.capability", got)
	say(fmt.Sprintf("capability %x", got[:max(size, 0)]), err)
	say("chown", unix.Chown(f, -1, 5))
	_, err = unix.Getxattr(f, "security.capability", got)
	say("capability after a chown", err)

	must0(unix.Mkfifo("fifo", 0o644))
	say("chown fifo", unix.Chown("fifo", 1, 2))
	show("fifo", "fifo")
	must0(unix.Mknod("socket", unix.S_IFSOCK|0o600, 0))
	say("chown socket", unix.Chown("socket", 1, 2))
	show("socket", "socket")
	for range 200 { // inode numbers are given out again at once
		touch("again", 0o644)
		must0(unix.Lstat("again", &s))
		if s.Uid != 0 {
			fmt.Println("a new file is another's:", s.Uid)
			break
		}
		must0(unix.Chown("again", 77, 77))
		must0(unix.Unlink("again"))
	}
}

func errorsProgram() {
	touch("file", 0o644)
	must0(unix.Mkdir("dir", 0o755))
	must0(unix.Symlink("nowhere", "dangling"))
	must0(unix.Symlink("loop", "loop"))
	long := strings.Repeat("d/../", 816)
	must0(unix.Mkdir("d", 0o755))
	for _, name := range []string{"", "nothing", "nothing/x", "file/", "file/x", "dangling", "loop", "dir/", ".", "/",
		strings.Repeat("x", 256), strings.Repeat("x/", 3000), long + "file", long + "d/../file",
		strings.Repeat("/", 4091) + "tmp", strings.Repeat("/", 4092) + "tmp", "/proc/self/fd/999", "/dev/fd/x"} {
		label := name
		if len(name) > 40 {
			label = fmt.Sprintf("%s... (%d)", name[:20], len(name))
		}
		var s unix.Stat_t
		if name != "/" && !strings.HasSuffix(name, "tmp") {
			say("chown "+label, unix.Chown(name, 1, 2))
		}
		for how, stat := range []func(string, *unix.Stat_t) error{unix.Stat, unix.Lstat} {
			s = unix.Stat_t{}
			err := stat(name, &s)
			if s.Uid == 65534 {
				s.Uid, s.Gid = 0, 0 // the person's root directory is nobody's that we know
			}
			say(fmt.Sprintf("%s %s %d:%d", []string{"stat", "lstat"}[how], label, s.Uid, s.Gid), err)
		}
	}
	var s unix.Stat_t
	say("fchown -1", unix.Fchown(-1, 1, 1))
	say("fchown 999", unix.Fchown(999, 1, 1))
	say("fstat 999", unix.Fstat(999, &s))
	say("fchownat 999", unix.Fchownat(999, "file", 1, 1, 0))
	say("fchownat 999 absolute", unix.Fchownat(999, filepath.Join(must1(os.Getwd()), "file"), 3, 3, 0))
	say("fchownat 999 empty", unix.Fchownat(999, "", 1, 1, emptyPath))
	say("fchownat empty without the flag", unix.Fchownat(unix.AT_FDCWD, "", 1, 1, 0))
	say("fchownat flags", unix.Fchownat(unix.AT_FDCWD, "file", 1, 1, unix.AT_SYMLINK_FOLLOW))
	fd := must1(unix.Open("file", unix.O_RDONLY|unix.O_CLOEXEC, 0))
	say("fchownat below a file", unix.Fchownat(fd, "x", 1, 1, 0))
	say("fstatat flags", unix.Fstatat(unix.AT_FDCWD, "file", &s, 0x10))

	bad := []uintptr{0, 1, 1 << 46, ^uintptr(0) - 4}
	cwd := unix.AT_FDCWD
	for _, ptr := range bad {
		say(fmt.Sprintf("fchownat at %#x", ptr), raw(unix.SYS_FCHOWNAT, uintptr(cwd), ptr, 1, 1, 0))
		say(fmt.Sprintf("statx at %#x", ptr), raw(unix.SYS_STATX, uintptr(cwd), ptr, 0, 0xfff,
			uintptr(unsafe.Pointer(&unix.Statx_t{}))))
		say(fmt.Sprintf("fstat to %#x", ptr), raw(unix.SYS_FSTAT, uintptr(fd), ptr))
	}
	// Paths at the end of the last page that there is, and across pages.
	size := 3 * os.Getpagesize()
	m := must1(unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE))
	must0(unix.Mprotect(m[size-os.Getpagesize():], unix.PROT_NONE))
	end := size - os.Getpagesize()
	for _, at := range []int{os.Getpagesize() - 2, end - 5, end - 4} {
		copy(m[at:min(end, at+5)], "file\x00")
		say("chown across pages", raw(unix.SYS_FCHOWNAT, uintptr(cwd), uintptr(unsafe.Pointer(&m[at])), 5, 6, 0))
		show("it", "file")
	}
	read := must1(unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_ANON|unix.MAP_PRIVATE))
	say("fstat to memory that is only read", raw(unix.SYS_FSTAT, uintptr(fd), uintptr(unsafe.Pointer(&read[0]))))
	say("fstat across", raw(unix.SYS_FSTAT, uintptr(fd), uintptr(unsafe.Pointer(&m[end-8]))))

	var x unix.Statx_t
	for _, mask := range []int{0, unix.STATX_UID, unix.STATX_BASIC_STATS, 1 << 31} {
		x = unix.Statx_t{}
		err := unix.Statx(unix.AT_FDCWD, "file", 0, mask, &x)
		say(fmt.Sprintf("statx %#x: birth %v, %d:%d", mask, x.Mask&unix.STATX_BTIME != 0, x.Uid, x.Gid), err)
	}
	x = unix.Statx_t{}
	must0(unix.Statx(unix.AT_FDCWD, "file", 0, unix.STATX_BTIME, &x))
	fmt.Println("asked for birth:", x.Mask&unix.STATX_BTIME != 0 && x.Btime.Sec != 0)
	say("statx flags", unix.Statx(unix.AT_FDCWD, "file", unix.AT_STATX_FORCE_SYNC|unix.AT_STATX_DONT_SYNC, 0, &x))

	p := make([]int, 2)
	must0(unix.Pipe2(p, unix.O_CLOEXEC))
	say("fstat pipe", unix.Fstat(p[0], &s))
	fmt.Printf("pipe: %o\n", s.Mode)
	sock := must1(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0))
	say("fstat socket", unix.Fstat(sock, &s))
	fmt.Printf("socket: %o\n", s.Mode)
	say("fchown pipe", unix.Fchown(p[0], 1, 2))
	must0(unix.Fstat(p[1], &s))
	fmt.Println("pipe:", s.Uid, s.Gid)
}

func must1[T any](v T, err error) T {
	must0(err)
	return v
}

func devicesProgram() {
	dev := int(unix.Mkdev(1, 3))
	say("mknod", unix.Mknod("null", unix.S_IFCHR|0o666, dev))
	show("null", "null")
	must0(unix.Chmod("null", 0o666))
	say("chown", unix.Chown("null", 0, 5))
	show("null", "null")
	say("again", unix.Mknod("null", unix.S_IFCHR|0o666, dev))
	must0(unix.Mkdir("dir", 0o755))
	dir := must1(unix.Open("dir", unix.O_RDONLY|unix.O_CLOEXEC, 0))
	say("mknodat", unix.Mknodat(dir, "sda", unix.S_IFBLK|0o660, int(unix.Mkdev(8, 300))))
	show("sda", "dir/sda")
	old := unix.Umask(0o077)
	say("mknod", unix.Mknod("dir/tty", unix.S_IFCHR|0o666, int(unix.Mkdev(5, 0))))
	unix.Umask(old)
	show("under a umask", "dir/tty")
	must0(unix.Symlink("nowhere", "dangling"))
	say("mknod at a dangling link", unix.Mknod("dangling", unix.S_IFCHR|0o666, dev))
	say("mknod nowhere", unix.Mknod("nowhere/x", unix.S_IFCHR|0o666, dev))
	say("mknod bad pointer", raw(unix.SYS_MKNODAT, uintptr(dir), 1, unix.S_IFCHR|0o666, uintptr(dev)))
	say("mknod fifo", unix.Mknod("fifo", unix.S_IFIFO|0o644, 0))
	show("fifo", "fifo")
	say("mknod file", unix.Mknod("file", unix.S_IFREG|0o644, 0))
	show("file", "file")
	say("mknod of no type", unix.Mknod("file2", 0o644, 0))
	show("file", "file2")
	must0(unix.Link("null", "hard"))
	must0(unix.Rename("null", "renamed"))
	show("hard", "hard")
	show("renamed", "renamed")
	must0(unix.Unlink("hard"))
	must0(unix.Unlink("renamed"))
	touch("null", 0o644)
	show("a file in its place", "null")
}

func toolsProgram() {
	sh := func(script string) {
		out, err := exec.Command("sh", "-ec", script).CombinedOutput()
		fmt.Printf("%s\n%s%v\n", script, out, err)
	}
	sh("install -o 7 -g 8 -m 2755 /bin/true prog; stat -c '%a %u %g' prog")
	sh("mkdir -p t/u; mknod t/dev c 1 3; ln -s dev t/link; echo >t/u/f; chown -Rh 9:10 t")
	sh("find t | xargs stat -c '%n %F %a %u %g %t' | sort")
	sh("chown --from=9 11 t/u/f; stat -c '%u %g' t/u/f")
	sh("tar -cf t.tar --sort=name t; tar -tvf t.tar --numeric-owner | sed -E 's/ +/ /g; s/[0-9-]{10} [0-9:]{5}//'")
	sh("mkdir x; tar -xpf t.tar -C x --numeric-owner --same-owner")
	sh("find x | xargs stat -c '%n %F %a %u %g %t' | sort")
	sh("cp -a t y; find y | xargs stat -c '%n %F %a %u %g %t' | sort")
	sh("ls -lnd t/dev t/u t/link | sed -E 's/ +/ /g' | cut -d' ' -f1,3,4")
	sh("stat -L -c %u /dev/stdin <prog; test -O x; test -O t/u || echo not mine; find . -user 9 | sort")
	sh("chown 12 t/* & chown 13 x/* & wait; stat -c %u t/u x/t")
}

func chrootProgram() {
	must0(unix.Mkdir("root", 0o755))
	must0(unix.Mkdir("root/etc", 0o755))
	must0(unix.Mkdir("etc", 0o755))
	touch("etc/shadow", 0o640)
	touch("root/etc/shadow", 0o640)
	must0(unix.Symlink("/etc/shadow", "root/link"))
	outer := must1(unix.Open(".", unix.O_RDONLY|unix.O_CLOEXEC, 0))
	touch("file", 0o644)
	say("chroot", unix.Chroot("root"))
	say("chown absolute", unix.Chown("/etc/shadow", 0, 42))
	say("chown relative, from outside", unix.Chown("file", 3, 4))
	show("file", "file")
	must0(unix.Chdir("/"))
	show("absolute", "/etc/shadow")
	show("relative", "etc/shadow")
	show("dots", "../../../etc/shadow")
	say("chown through an absolute link", unix.Chown("link", 1, 43))
	show("absolute", "/etc/shadow")
	say("fchownat outside", unix.Fchownat(outer, "root/etc/shadow", 2, 44, 0))
	show("absolute", "/etc/shadow")
	say("mknod", unix.Mknod("/etc/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	show("device", "etc/null")
	must0(unix.Fchdir(outer))
	show("the other", "etc/shadow")
	show("device", "root/etc/null")
	say("chroot back", unix.Chroot("."))
	show("back", "/root/etc/shadow")
	show("back", "/etc/shadow")
	show("a link that leads elsewhere now", "/root/link")
}

// who prints the ids of this thread, by raw system calls: those of Go are for all threads.
func who(label string) {
	one := func(nr uintptr) int {
		n, _, _ := unix.RawSyscall(nr, 0, 0, 0)
		return int(int32(n))
	}
	var u, g [3]uint32
	for nr, ids := range map[uintptr]*[3]uint32{unix.SYS_GETRESUID: &u, unix.SYS_GETRESGID: &g} {
		must0(raw(nr, uintptr(unsafe.Pointer(&ids[0])), uintptr(unsafe.Pointer(&ids[1])),
			uintptr(unsafe.Pointer(&ids[2]))))
	}
	fmt.Println(label, "users", one(unix.SYS_GETUID), one(unix.SYS_GETEUID), u,
		"groups", one(unix.SYS_GETGID), one(unix.SYS_GETEGID), g, must1(unix.Getgroups()))
}

func idsProgram(args []string) {
	same := -1
	call := func(name string, nr uintptr, a ...int) {
		var args [3]uintptr
		for i, id := range a {
			args[i] = uintptr(uint32(id))
		}
		n, _, errno := unix.RawSyscall(nr, args[0], args[1], args[2])
		label := fmt.Sprintf("%s%v = %d", name, a, n)
		if errno != 0 {
			label = fmt.Sprintf("%s%v", name, a)
			say(label, errno)
		}
		who(label)
	}
	subs := map[string]func(){}
	sub := func(name string, f func()) { // by a process of its own, which has this one's ids
		if subs[name] = f; len(args) > 0 {
			return
		}
		fmt.Println("-- " + name)
		cmd := programCmd(".", "ids", name)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		say("-- ended", cmd.Run())
	}
	if len(args) == 0 {
		must0(raw(unix.SYS_SETGROUPS, 0, 0))
		who("start")
		list := []uint32{30, 10, 20}
		say("setgroups", raw(unix.SYS_SETGROUPS, 3, uintptr(unsafe.Pointer(&list[0]))))
		who("groups")
		say("setgroups at a bad pointer", raw(unix.SYS_SETGROUPS, 3, 1))
		say("setgroups of three, with more above an int", raw(unix.SYS_SETGROUPS, 3|1<<62,
			uintptr(unsafe.Pointer(&list[0]))))
		say("setgroups too many", raw(unix.SYS_SETGROUPS, 65537, uintptr(unsafe.Pointer(&list[0]))))
		say("getgroups too few", raw(unix.SYS_GETGROUPS, 2, uintptr(unsafe.Pointer(&list[0]))))
		say("getgroups to a bad pointer", raw(unix.SYS_GETGROUPS, 3, 1))
		say("getresuid to a bad pointer", raw(unix.SYS_GETRESUID, 1, 1, 1))
	}
	sub("setuid", func() {
		call("setuid", unix.SYS_SETUID, same)
		call("setgid", unix.SYS_SETGID, 34)
		call("setuid", unix.SYS_SETUID, 33)
		call("setuid", unix.SYS_SETUID, 0)
		call("setuid", unix.SYS_SETUID, 33)
		call("setgid", unix.SYS_SETGID, 0)
		call("setgid", unix.SYS_SETGID, 34)
		say("setgroups", raw(unix.SYS_SETGROUPS, 0, 0))
	})
	sub("setreuid", func() {
		call("setreuid", unix.SYS_SETREUID, same, 33)
		call("setreuid", unix.SYS_SETREUID, 34, same)
		call("setreuid", unix.SYS_SETREUID, same, 0)
		call("setreuid", unix.SYS_SETREUID, 33, 33)
		call("setreuid", unix.SYS_SETREUID, same, 0)
		call("setreuid", unix.SYS_SETREUID, 33, same)
	})
	sub("setresuid", func() {
		call("setresgid", unix.SYS_SETRESGID, 1, 2, 3)
		call("setresuid", unix.SYS_SETRESUID, 1, 2, 3)
		call("setresuid", unix.SYS_SETRESUID, 3, 1, 2)
		call("setresuid", unix.SYS_SETRESUID, 4, same, same)
		call("setresuid", unix.SYS_SETRESUID, same, same, 3)
		call("setresgid", unix.SYS_SETRESGID, 3, 1, same)
		call("setresgid", unix.SYS_SETRESGID, same, same, 0)
		call("setuid", unix.SYS_SETUID, 3)
		call("setregid", unix.SYS_SETREGID, 1, 3)
		call("setregid", unix.SYS_SETREGID, 0, 3)
	})
	sub("setfsuid", func() {
		call("setfsuid", unix.SYS_SETFSUID, 33)
		call("setfsuid", unix.SYS_SETFSUID, same)
		call("setfsgid", unix.SYS_SETFSGID, 34)
		call("setfsgid", unix.SYS_SETFSGID, same)
		call("setresuid", unix.SYS_SETRESUID, 5, 5, 5)
		call("setfsuid", unix.SYS_SETFSUID, 0)
		call("setfsuid", unix.SYS_SETFSUID, same)
	})
	if len(args) == 0 {
		touch("mine", 0o644)
		must0(unix.Chown("mine", 33, 34))
		must0(unix.Chmod(".", 0o777))
	}
	sub("chown as another", func() {
		list := []uint32{40}
		must0(raw(unix.SYS_SETGROUPS, 1, uintptr(unsafe.Pointer(&list[0]))))
		must0(raw(unix.SYS_SETRESGID, 34, 34, 34))
		must0(raw(unix.SYS_SETRESUID, 33, 33, 33))
		for _, ids := range [][2]int{{33, 34}, {33, 40}, {same, 34}, {same, 41}, {0, 34}, {33, 0}, {same, same}} {
			say(fmt.Sprint("chown ", ids), unix.Chown("mine", ids[0], ids[1]))
		}
		show("mine", "mine")
		say("mknod", unix.Mknod("dev", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	})
	if len(args) > 0 {
		subs[args[0]]()
		return
	}
	out, err := exec.Command("sh", "-ec", `
		setpriv --reuid 33 --regid 34 --clear-groups sh -c '
			id -u; id -g; id -G; sh -c "id -u; (id -ru &) | cat"; perl -e "print qq(\$< \$> \$( \$))"'
		perl -e '$| = 1; $) = "35 35 36"; $> = 33; print "$< $> $( $)"; system("id -u; id -ru"); $> = 0; print "$>."'
		id -u`).CombinedOutput()
	fmt.Printf("%s%v\n", out, err)
}

// createProgram makes files as another, and in directories that hand their group on.
func createProgram() {
	must0(unix.Mkdir("theirs", 0o777))
	must0(unix.Chmod("theirs", 0o777))
	must0(unix.Mkdir("group", 0o777))
	must0(unix.Chown("group", 0, 50))
	must0(unix.Chmod("group", 0o2777))
	unix.Umask(0o027)
	make := func(dir string) {
		name := func(s string) string { return filepath.Join(dir, s) }
		fd, err := unix.Open(name("file"), unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o666)
		say("open", err)
		show("file", name("file"))
		_, err = unix.Write(fd, []byte("words"))
		say("write", err)
		flags := must1(unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0))
		status := must1(unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0))
		fmt.Println(flags, status&(unix.O_ACCMODE|unix.O_APPEND))
		fd, err = unix.Open(name("file"), unix.O_CREAT|unix.O_WRONLY|unix.O_APPEND, 0o666)
		say("open again", err)
		_, err = unix.Write(fd, []byte(" more"))
		say("append", err)
		_, err = unix.Open(name("file"), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o666)
		say("open a new one", err)
		fd, err = unix.Open(name("new"), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_APPEND, 0o400)
		say("open a new one that is read-only", err)
		_, err = unix.Write(fd, []byte("new"))
		say("write", err)
		status = must1(unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0))
		fmt.Println(must1(unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)), status&(unix.O_ACCMODE|unix.O_APPEND))
		show("new", name("new"))
		show("file", name("file"))
		say("mkdir", unix.Mkdir(name("dir"), 0o777))
		say("mkdir again", unix.Mkdir(name("dir"), 0o777))
		say("mkdir with a slash", unix.Mkdir(name("dir/sub")+"/", 0o777))
		show("dir", name("dir"))
		show("dir/sub", name("dir/sub"))
		say("symlink", unix.Symlink("file", name("link")))
		show("link", name("link"))
		say("mkfifo", unix.Mkfifo(name("fifo"), 0o666))
		show("fifo", name("fifo"))
		say("open through a link to nothing", unix.Symlink("target", name("dangling")))
		say("mkdir nowhere", unix.Mkdir(name("nowhere/x"), 0o777))
		say("mkdir .", unix.Mkdir(name("dir")+"/.", 0o777))
		say("mkdir at a bad pointer", raw(unix.SYS_MKDIRAT, 0, 1, 0o777))
		say("symlink at a bad pointer", raw(unix.SYS_SYMLINKAT, 1, 0, 1))
	}
	make("group")
	if os.Geteuid() == 0 {
		must0(raw(unix.SYS_SETGROUPS, 0, 0))
		must0(raw(unix.SYS_SETRESGID, 34, 34, 34))
		must0(raw(unix.SYS_SETRESUID, 33, 33, 33))
	}
	make("theirs")
}
