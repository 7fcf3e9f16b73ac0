package sandbox

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// makeRoom builds the root, with its mounts, and moves into it. It returns the directory of the terminals.
func makeRoom(c *Config) (pts int, err error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return -1, fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Sethostname([]byte(c.Hostname)); err != nil {
		return -1, fmt.Errorf("set the host name: %w", err)
	}
	if err := loopback(); err != nil {
		return -1, fmt.Errorf("set the loopback interface up: %w", err)
	}
	root, err := mountRoot(c)
	if err != nil {
		return -1, err
	}
	defer unix.Close(root)
	r := room{root}
	if pts, err = r.kernel(c); err != nil {
		return -1, err
	}
	if err := r.wanted(c); err != nil {
		return pts, err
	}
	if c.ReadOnly {
		if err := setAttr(root, unix.MOUNT_ATTR_RDONLY, 0); err != nil {
			return pts, fmt.Errorf("make the root read-only: %w", err)
		}
	}
	if err := unix.Fchdir(root); err != nil {
		return pts, err
	}
	if err := unix.PivotRoot(".", "."); err != nil { // the old root is then on top of the new one
		return pts, fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return pts, fmt.Errorf("leave the old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return pts, err
	}
	if err := bound(); err != nil {
		return pts, err
	}
	return pts, mask()
}

// bound sets what the kernel lets a namespace's root set for it.
func bound() error {
	// The filter refuses user namespaces; here is nothing that could be overlooked.
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
		return fmt.Errorf("refuse user namespaces: %w", err)
	}
	// Each pid namespace has its own limit from Linux 6.14 on. Before, this file is the machine's.
	var u unix.Utsname
	var major, minor int
	if err := unix.Uname(&u); err != nil {
		return err
	}
	const pidMax = "/proc/sys/kernel/pid_max"
	if n, _ := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); n < 2 ||
		major < 6 || major == 6 && minor < 14 {
		return nil
	}
	if b, err := os.ReadFile(pidMax); err != nil || len(bytes.TrimSpace(b)) < len("100000") {
		return err // it is low enough
	}
	if err := os.WriteFile(pidMax, []byte(strconv.Itoa(maxProcesses)), 0); err != nil {
		return fmt.Errorf("limit the processes: %w", err)
	}
	return nil
}

// mountRoot mounts the root over its own directory and returns it.
func mountRoot(c *Config) (int, error) {
	lower, err := unix.Open(c.Root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open root", Path: c.Root, Err: err}
	}
	defer unix.Close(lower)
	var root int
	if c.Layer == "" {
		root, err = cloneTree(lower)
	} else {
		root, err = mountOverlay(lower, c.Layer)
	}
	if err != nil {
		return -1, err
	}
	err = setAttr(root, unix.MOUNT_ATTR_NODEV, 0)
	if err == nil {
		err = unix.MoveMount(root, "", lower, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	}
	if err != nil {
		unix.Close(root)
		return -1, fmt.Errorf("mount the root: %w", err)
	}
	return root, nil
}

// mountOverlay makes an overlay over a directory, with what is written in dir. Its directories are named by
// descriptors: colons and commas in a path have a meaning for it.
func mountOverlay(lower int, dir string) (int, error) {
	options := [][2]string{{"lowerdir", fdPath(lower)}}
	for _, d := range [][2]string{{"upperdir", "upper"}, {"workdir", "work"}} {
		full := path.Join(dir, d[1])
		if err := makeLike(full, lower); err != nil {
			return -1, err
		}
		fd, err := unix.Open(full, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: full, Err: err}
		}
		defer unix.Close(fd)
		options = append(options, [2]string{d[0], fdPath(fd)})
	}
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("make an overlay: %w", err)
	}
	defer unix.Close(fs)
	for _, o := range options {
		if err := unix.FsconfigSetString(fs, o[0], o[1]); err != nil {
			return -1, fmt.Errorf("make an overlay: %s: %w", o[0], err)
		}
	}
	if err := unix.FsconfigSetFlag(fs, "userxattr"); err != nil {
		return -1, fmt.Errorf("make an overlay in a user namespace (Linux 5.11): %w", err)
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("make an overlay in %s: %w", dir, err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("mount an overlay: %w", err)
	}
	return fd, nil
}

// makeLike makes a directory with the owner and mode of another: an overlay's root has those of its upper directory.
func makeLike(dir string, like int) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return fill(dir, like)
}

func fdPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// cloneTree returns a mount of what fd is, with the mounts below it, that is nowhere yet.
func cloneTree(fd int) (int, error) {
	tree, err := unix.OpenTree(fd, "",
		unix.AT_EMPTY_PATH|unix.AT_RECURSIVE|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("bind: %w", err)
	}
	return tree, nil
}

// setAttr adds attributes to a mount; flags may be AT_RECURSIVE.
func setAttr(fd int, attr uint64, flags uint) error {
	err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|flags, &unix.MountAttr{Attr_set: attr})
	if errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("mount_setattr, which Linux has from 5.12 on: %w", err)
	}
	return err
}

// room is the root while it is built. Nothing in it is trusted: all paths are resolved below it.
type room struct{ root int }

func (r room) resolve(target string, dir bool) (fd int, made bool, err error) {
	return resolve(r.root, target, dir)
}

// mount mounts a file system on a directory of the root and returns that directory.
func (r room) mount(fs, target string, flags uintptr, options string) (int, error) {
	at, _, err := r.resolve(target, true)
	if err == nil {
		err = unix.Mount(fs, fdPath(at), fs, flags, options)
		unix.Close(at)
	}
	if err != nil {
		return -1, fmt.Errorf("mount %s on %s: %w", fs, target, err)
	}
	at, _, err = r.resolve(target, true)
	return at, err
}

// bind makes source, a file or directory of this machine, visible at target.
func (r room) bind(m Mount) error {
	src, err := unix.Open(m.Source, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "mount", Path: m.Source, Err: err}
	}
	defer unix.Close(src)
	if err := r.bindFD(src, m); err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.Source, m.Target, err)
	}
	return nil
}

func (r room) bindFD(src int, m Mount) error {
	var st unix.Stat_t
	if err := unix.Fstat(src, &st); err != nil {
		return err
	}
	dir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	at, made, err := r.resolve(m.Target, dir)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	if m.Fill && dir && !made {
		if err := fill(m.Source, at); err != nil {
			return fmt.Errorf("give it the owner and mode of the directory there: %w", err)
		}
	}
	tree, err := cloneTree(src)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	attr := uint64(unix.MOUNT_ATTR_NODEV)
	if kind := st.Mode & unix.S_IFMT; kind == unix.S_IFCHR || kind == unix.S_IFBLK {
		// It works, and is not changed: its owner may be root of the machine, who is root here, too, with one id.
		attr = unix.MOUNT_ATTR_RDONLY
	}
	if m.ReadOnly {
		attr |= unix.MOUNT_ATTR_RDONLY
	}
	if err := setAttr(tree, attr, unix.AT_RECURSIVE); err != nil {
		return err
	}
	return unix.MoveMount(tree, "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// fill gives an empty directory owner and mode of another.
func fill(dir string, like int) error {
	list, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer list.Close()
	if names, _ := list.Readdirnames(1); len(names) > 0 {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(like, &st); err != nil {
		return err
	}
	// EINVAL: an owner that is not mapped here, as all but one are with one id; then it stays this user's.
	if err := list.Chown(int(st.Uid), int(st.Gid)); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return unix.Fchmod(int(list.Fd()), st.Mode&0o7777)
}

const (
	quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	// tty is the group of terminals in Debian and in most others.
	tty = 5
)

// kernel mounts the file systems that every Linux program expects, as Docker does.
func (r room) kernel(c *Config) (pts int, err error) {
	for _, d := range []string{"/proc", "/sys", "/dev"} { // a link would have them, and what is masked, elsewhere
		how := uint64(unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS)
		if fd, err := openat2(r.root, d, unix.O_PATH|unix.O_DIRECTORY, how); err == nil {
			unix.Close(fd)
		} else if !errors.Is(err, unix.ENOENT) {
			return -1, fmt.Errorf("%s of the root is not a directory: %w", d, err)
		}
	}
	ptsOptions := fmt.Sprintf("newinstance,ptmxmode=0666,mode=0620,gid=%d", tty)
	if !c.IDs.hasGroup(tty) {
		ptsOptions = "newinstance,ptmxmode=0666,mode=0620"
	}
	for _, m := range []struct {
		fs, target string
		flags      uintptr
		options    string
	}{
		{"proc", "/proc", quiet, ""},
		{"sysfs", "/sys", quiet | unix.MS_RDONLY, ""},
		{"tmpfs", "/dev", unix.MS_NOSUID | unix.MS_STRICTATIME, "mode=755,size=65536k"},
		{"devpts", "/dev/pts", unix.MS_NOSUID | unix.MS_NOEXEC, ptsOptions},
		{"tmpfs", "/dev/shm", quiet, "mode=1777,size=65536k"},
		{"mqueue", "/dev/mqueue", quiet, ""},
	} {
		fd, err := r.mount(m.fs, m.target, m.flags, m.options)
		if err != nil {
			return -1, err
		}
		if m.fs == "devpts" {
			pts, err = unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		}
		unix.Close(fd)
		if err != nil {
			return -1, err
		}
	}
	for _, n := range append([]string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"},
		c.Devices...) {
		if err := r.bind(Mount{Source: n, Target: n}); err != nil {
			return pts, err
		}
	}
	dev, _, err := r.resolve("/dev", true)
	if err != nil {
		return pts, err
	}
	defer unix.Close(dev)
	for _, l := range [][2]string{
		{"pts/ptmx", "ptmx"}, {"/proc/self/fd", "fd"}, {"/proc/kcore", "core"},
		{"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"},
	} {
		if err := unix.Symlinkat(l[0], dev, l[1]); err != nil {
			return pts, fmt.Errorf("make /dev/%s: %w", l[1], err)
		}
	}
	return pts, nil
}

// wanted mounts what the caller asked for, those that are nearer to the root first.
func (r room) wanted(c *Config) error {
	type want struct {
		target string
		do     func() error
	}
	var all []want
	for _, m := range c.Mounts {
		all = append(all, want{m.Target, func() error { return r.bind(m) }})
	}
	for target, options := range c.Tmpfs {
		all = append(all, want{target, func() error {
			flags, rest := tmpfsOptions(options)
			fd, err := r.mount("tmpfs", target, flags, rest)
			if err == nil {
				unix.Close(fd)
			}
			return err
		}})
	}
	depth := func(p string) int { return strings.Count(path.Clean("/"+p), "/") }
	slices.SortStableFunc(all, func(a, b want) int {
		return cmp.Or(cmp.Compare(depth(a.target), depth(b.target)), cmp.Compare(a.target, b.target))
	})
	for _, w := range all {
		if err := w.do(); err != nil {
			return err
		}
	}
	return nil
}

// tmpfsOptions parts Docker's options into the flags of a mount and what tmpfs itself reads.
func tmpfsOptions(options string) (flags uintptr, rest string) {
	flags = quiet
	var keep []string
	for o := range strings.SplitSeq(options, ",") {
		switch o {
		case "", "rw":
		case "ro":
			flags |= unix.MS_RDONLY
		case "exec":
			flags &^= unix.MS_NOEXEC
		case "suid":
			flags &^= unix.MS_NOSUID
		case "dev":
			flags &^= unix.MS_NODEV
		case "noexec", "nosuid", "nodev":
		default:
			keep = append(keep, o)
		}
	}
	return flags, strings.Join(keep, ",")
}

// mask hides and locks what Docker does (moby's oci.DefaultSpec), in the new root.
func mask() error {
	for _, p := range []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/devices/virtual/powercap", "/sys/firmware",
	} {
		var st unix.Stat_t
		if err := unix.Stat(p, &st); err != nil {
			continue // this kernel has none
		}
		var err error
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			err = unix.Mount("tmpfs", p, "tmpfs", quiet|unix.MS_RDONLY, "")
		} else {
			err = unix.Mount("/dev/null", p, "", unix.MS_BIND, "")
		}
		if err != nil {
			return fmt.Errorf("mask %s: %w", p, err)
		}
	}
	// Docker locks bus, fs, irq, sys and sysrq-trigger, and has AppArmor refuse writes to the rest where it can.
	list, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	for _, e := range list {
		info, err := e.Info()
		if err != nil || e.Name()[0] >= '1' && e.Name()[0] <= '9' { // a process
			continue
		}
		if p := "/proc/" + e.Name(); info.IsDir() || info.Mode().IsRegular() && info.Mode().Perm()&0o222 != 0 {
			if err := lock(p); err != nil {
				return fmt.Errorf("make %s read-only: %w", p, err)
			}
		}
	}
	return nil
}

// lock makes what is below a path read-only.
func lock(p string) error {
	fd, err := unix.Open(p, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	tree, err := cloneTree(fd)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	if err := setAttr(tree, unix.MOUNT_ATTR_RDONLY, unix.AT_RECURSIVE); err != nil {
		return err
	}
	return unix.MoveMount(tree, "", fd, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}
