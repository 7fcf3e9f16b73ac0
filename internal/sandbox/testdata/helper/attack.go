package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attack tries what a sandbox is to contain and prints what it got away with.
func attack(arg []string) error {
	f := attacks[arg[0]]
	if f == nil {
		return fmt.Errorf("there is no %q", arg[0])
	}
	f(arg[1:])
	return nil
}

// try reports an attempt that was not refused.
func try(name string, err error) {
	if err == nil {
		fmt.Println("not refused:", name)
	}
}

func call(name string, nr uintptr, args ...uintptr) {
	args = append(args, 0, 0, 0, 0, 0, 0)
	_, _, errno := unix.Syscall6(nr, args[0], args[1], args[2], args[3], args[4], args[5])
	if errno == 0 {
		fmt.Println("not refused:", name)
	}
}

func str(s string) uintptr {
	b, _ := unix.BytePtrFromString(s)
	return uintptr(unsafe.Pointer(b))
}

func readable(path string) {
	b, err := os.ReadFile(path)
	if err == nil && len(b) > 0 {
		fmt.Println("readable:", path)
	}
}

func writable(path string) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		f.Close()
		fmt.Println("writable:", path)
	}
}

var attacks = map[string]func(arg []string){
	"network": func(arg []string) { // arg: a TCP address and an abstract socket of the machine
		c, err := net.DialTimeout("tcp", arg[0], time.Second)
		try("connect to "+arg[0], err)
		if err == nil {
			c.Close()
		}
		_, err = net.Dial("unix", "@"+arg[1])
		try("connect to an abstract socket", err)
		list, err := net.Interfaces()
		if err != nil || len(list) != 1 || list[0].Name != "lo" {
			fmt.Println("interfaces:", list, err)
		}
		for name, family := range map[string]int{"vsock": unix.AF_VSOCK, "alg": unix.AF_ALG,
			"packet": unix.AF_PACKET} {
			_, err := unix.Socket(family, unix.SOCK_STREAM, 0)
			try("socket "+name, err)
			call("socket "+name+" by another number", unix.SYS_SOCKET, uintptr(family)|1<<32,
				unix.SOCK_STREAM)
		}
		_, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
		try("a raw socket", err)
	},
	"pid1": func([]string) {
		runtime.LockOSThread()
		try("ptrace attach", unix.PtraceAttach(1))
		try("ptrace seize", unix.PtraceSeize(1))
		for _, n := range []string{"mem", "environ", "maps", "exe", "auxv"} {
			readable("/proc/1/" + n)
		}
		writable("/proc/1/mem")
		writable("/proc/1/exe")
		for _, n := range []string{"exe", "root", "cwd", "ns/user", "fd/0", "fd/2", "fd/3", "fd/4", "fd/5",
			"fd/6"} {
			_, err := os.ReadDir("/proc/1/" + n)
			try("list "+n, err)
			_, err = os.Readlink("/proc/1/" + n)
			try("follow "+n, err)
		}
		b := make([]byte, 8)
		_, err := unix.ProcessVMReadv(1, []unix.Iovec{{Base: &b[0], Len: 8}},
			[]unix.RemoteIovec{{Base: 0x400000, Len: 8}}, 0)
		try("process_vm_readv", err)
		fd, err := unix.PidfdOpen(1, 0)
		if err == nil {
			_, err = unix.PidfdGetfd(fd, 3, 0)
			try("pidfd_getfd", err)
		}
		for s := range unix.Signal(65) {
			_ = unix.Kill(1, s)
		}
	},
	"sysctl": func([]string) {
		for _, p := range []string{"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname",
			"/proc/sys/vm/overcommit_memory",
			"/proc/sys/kernel/pid_max", "/proc/sys/user/max_user_namespaces", "/proc/sysrq-trigger",
			"/proc/irq/default_smp_affinity",
			"/sys/kernel/mm/transparent_hugepage/enabled", "/sys/power/state", "/sys/kernel/uevent_helper"} {
			writable(p)
		}
		for _, p := range []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts",
			"/sys/firmware/dmi/tables/DMI",
			"/proc/kmsg"} {
			readable(p)
		}
		_, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, make([]byte, 100))
		try("read the kernel's log", err)
	},
	"writable": func([]string) { // whatever in /proc and /sys is no process's own
		for _, top := range []string{"/proc", "/sys"} {
			_ = filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
				if err != nil || d.Type()&fs.ModeSymlink != 0 {
					return nil
				}
				if top == "/proc" && p > "/proc/0" && p < "/proc/:" {
					return fs.SkipDir
				}
				info, err := os.Lstat(p) // of what is mounted there
				if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o222 != 0 {
					writable(p)
				}
				return nil
			})
		}
		for _, n := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
			try("change /dev/"+n, os.Chmod("/dev/"+n, 0o666))
			try("touch /dev/"+n, os.Chtimes("/dev/"+n, time.Now(), time.Now()))
		}
		try("change what masks /proc/keys", os.Chmod("/proc/keys", 0o666))
		if err := os.WriteFile("/dev/null", []byte("x"), 0); err != nil {
			fmt.Println(err)
		}
	},
	"keys": func([]string) {
		call("keyctl", unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, ^uintptr(2), 0)
		call("add_key", unix.SYS_ADD_KEY, str("user"), str("kimg-attack"), str("x"), 1, ^uintptr(1))
		call("request_key", unix.SYS_REQUEST_KEY, str("user"), str("kimg"), 0, 0)
	},
	"mounts": func([]string) {
		try("mount", unix.Mount("tmpfs", "/tmp", "tmpfs", 0, ""))
		try("bind", unix.Mount("/etc", "/tmp", "", unix.MS_BIND, ""))
		try("remount", unix.Mount("", "/proc/sys", "", unix.MS_REMOUNT|unix.MS_BIND, ""))
		try("unmount", unix.Unmount("/proc/kcore", unix.MNT_DETACH))
		try("pivot_root", unix.PivotRoot("/", "/tmp"))
		_, err := unix.Fsopen("tmpfs", 0)
		try("fsopen", err)
		_, err = unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE)
		try("open_tree", err)
		try("mount_setattr", unix.MountSetattr(unix.AT_FDCWD, "/proc/sys", 0,
			&unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}))
	},
	"namespaces": func([]string) {
		runtime.LockOSThread()
		for name, flag := range map[string]int{"user": unix.CLONE_NEWUSER, "mount": unix.CLONE_NEWNS,
			"net": unix.CLONE_NEWNET,
			"pid": unix.CLONE_NEWPID} {
			try("unshare "+name, unix.Unshare(flag))
			pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(flag)|uintptr(unix.SIGCHLD), 0, 0, 0, 0,
				0)
			if errno == 0 {
				if pid == 0 {
					unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
				}
				fmt.Println("not refused: clone", name)
			}
		}
		clone3 := [11]uint64{0: unix.CLONE_NEWUSER, 4: uint64(unix.SIGCHLD)}
		pid, _, errno := unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&clone3)), 88, 0)
		if errno == 0 && pid == 0 {
			unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
		if errno != unix.ENOSYS {
			fmt.Println("clone3:", errno)
		}
		if fd, err := unix.Open("/proc/self/ns/mnt", unix.O_RDONLY, 0); err == nil {
			try("setns", unix.Setns(fd, 0))
		}
	},
	"calls": func([]string) {
		for name, nr := range map[string]uintptr{"bpf": unix.SYS_BPF,
			"perf_event_open": unix.SYS_PERF_EVENT_OPEN,
			"userfaultfd":     unix.SYS_USERFAULTFD, "io_uring_setup": unix.SYS_IO_URING_SETUP,
			"kexec_load":  unix.SYS_KEXEC_LOAD,
			"init_module": unix.SYS_INIT_MODULE, "finit_module": unix.SYS_FINIT_MODULE,
			"swapon": unix.SYS_SWAPON, "acct": unix.SYS_ACCT,
			"open_by_handle_at": unix.SYS_OPEN_BY_HANDLE_AT, "settimeofday": unix.SYS_SETTIMEOFDAY,
			"vhangup":       unix.SYS_VHANGUP,
			"fanotify_init": unix.SYS_FANOTIFY_INIT, "move_pages": unix.SYS_MOVE_PAGES} {
			_, _, errno := unix.Syscall6(nr, 0, 0, 0, 0, 0, 0)
			if errno != unix.EPERM && errno != unix.ENOSYS {
				fmt.Printf("%s: %v\n", name, errno)
			}
		}
	},
	"chroot": func([]string) { // out of a root below the root, by a descriptor of the root
		fd, err := unix.Open("/", unix.O_RDONLY, 0)
		if err != nil {
			fmt.Println(err)
			return
		}
		_ = os.Mkdir("/tmp/cell", 0o755)
		if err := unix.Chroot("/tmp/cell"); err != nil {
			fmt.Println("chroot:", err)
			return
		}
		_ = unix.Fchdir(fd)
		for range 100 {
			_ = unix.Chdir("..")
		}
		if err := unix.Chroot("."); err != nil {
			fmt.Println("chroot:", err)
		}
		list, _ := os.ReadDir("/")
		var names []string
		for _, e := range list {
			names = append(names, e.Name())
		}
		fmt.Println(strings.Join(names, " "))
	},
	"machine": func(arg []string) { // arg: a pid and a path of the machine
		pid, _ := strconv.Atoi(arg[0])
		_ = unix.Kill(pid, unix.SIGKILL) // perhaps there is such a pid here, too
		_, err := os.Stat(arg[1])
		try("see "+arg[1], err)
	},
	"descriptors": func([]string) {
		list, _ := filepath.Glob("/proc/self/fd/*")
		for _, p := range list {
			to, err := os.Readlink(p)
			if fd, _ := strconv.Atoi(filepath.Base(p)); fd > 2 && err == nil && !strings.Contains(to,
				"anon_inode:") &&
				!strings.HasPrefix(to, "/proc/") {
				fmt.Println("open:", fd, to)
			}
		}
	},
	"type": func([]string) {
		for _, request := range []uintptr{unix.TIOCSTI, unix.TIOCSTI | 1<<32, unix.TIOCLINUX} {
			b := [2]byte{'x'}
			_, _, errno := unix.Syscall(unix.SYS_IOCTL, 0, request, uintptr(unsafe.Pointer(&b)))
			if errno != unix.EPERM {
				fmt.Printf("ioctl %#x: %v\n", request, errno)
			}
		}
	},
	"device": func(arg []string) { // arg: the path of a node
		b := make([]byte, 1)
		f, err := os.Open(arg[0])
		if err == nil {
			_, err = f.Read(b)
			f.Close()
		}
		try("read the device", err)
		if err := unix.Mknod("/tmp/mem", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 1))); err == nil {
			f, err := os.OpenFile("/tmp/mem", os.O_RDWR, 0)
			if err == nil {
				var st unix.Stat_t
				if f.WriteString("x"); unix.Fstat(int(f.Fd()), &st) == nil && st.Size == 0 {
					fmt.Println("a device was made that works")
				}
			}
		}
	},
	"swap": func(arg []string) { // for ever: dir/x is a directory, a link out, a file, a fifo
		d := arg[0]
		os.Mkdir(d+"/a", 0o755)
		os.WriteFile(d+"/a/inner", []byte("inner"), 0o644)
		os.Symlink("/etc", d+"/b")
		os.WriteFile(d+"/c", bytes.Repeat([]byte("c"), 5000), 0o644)
		os.Symlink("/proc/1/exe", d+"/e")
		unix.Mkfifo(d+"/f", 0o644)
		fmt.Println("swapping")
		for {
			for _, n := range []string{"a", "b", "c", "e", "f"} {
				os.Rename(d+"/"+n, d+"/x")
				os.Rename(d+"/x", d+"/"+n)
			}
			os.Truncate(d+"/c", 10)
			os.Truncate(d+"/c", 5000)
		}
	},
	"bomb": func([]string) { // processes that make processes, each in a session of its own
		for i := range 200 {
			if pid, err := fork(); err != nil || pid == 0 && i > 150 {
				break
			}
		}
		fmt.Println("up")
		time.Sleep(time.Hour)
	},
}

func fork() (int, error) {
	p, err := os.StartProcess(os.Args[0], []string{os.Args[0], "sleep"},
		&os.ProcAttr{Sys: &unix.SysProcAttr{Setsid: true}})
	if err != nil {
		return 0, err
	}
	return p.Pid, nil
}
