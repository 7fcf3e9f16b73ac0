package sandbox

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/kimg/kimg/internal/sandbox/owners"
	"github.com/kimg/kimg/internal/sandbox/watch"
)

// start starts a process with three streams. Capabilities, no_new_privs and filters of system calls are a thread's
// own, and a child has those of the thread that made it: so a thread that does nothing else gives everything up, and
// then forks. It ends with its goroutine, which stays locked to it.
func (in *initd) start(p *process, files []*os.File) (pidfd int, ended chan syscall.WaitStatus, err error) {
	who, err := in.user(p.User)
	if err != nil {
		return -1, nil, fmt.Errorf("run %s: %w", p.Args[0], err)
	}
	if p.TTY {
		if err := unix.Fchown(int(files[0].Fd()), who.Uid, -1); err != nil {
			return -1, nil, fmt.Errorf("give the terminal to user %d: %w", who.Uid, err)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		// A working directory of the thread's own, in which a relative path of the program is looked for, too.
		if err = unix.Unshare(unix.CLONE_FS); err != nil {
			return
		}
		if err = in.giveUp(p, who); err == nil {
			pidfd, ended, err = in.fork(p, who, files)
		}
	}()
	<-done
	if err != nil {
		return -1, nil, fmt.Errorf("run %s: %w", p.Args[0], err)
	}
	return pidfd, ended, nil
}

// user finds who a process is to be, in the root's own files.
func (in *initd) user(spec string) (*user.ExecUser, error) {
	if in.ids.One() {
		spec = fmt.Sprintf("%d:%d", in.ids.UIDs[0].Inside, in.ids.GIDs[0].Inside)
	}
	var files [2]io.Reader
	for i, name := range []string{"/etc/passwd", "/etc/group"} {
		f, err := openRegular(unix.AT_FDCWD, name)
		if err != nil {
			continue // numbers need no file; of a name the error is that it is not known
		}
		defer f.Close()
		files[i] = io.LimitReader(f, 10<<20)
	}
	return user.GetExecUser(spec, &user.ExecUser{Home: "/"}, files[0], files[1])
}

// openRegular opens a regular file of the sandbox, whatever lies there: it does not wait for a fifo's other end, and
// follows no link of /proc, such as the one to this program.
func openRegular(dir int, name string) (*os.File, error) {
	fd, err := openat2(dir, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &os.PathError{Op: "open", Path: name, Err: unix.EINVAL}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// raw makes a system call for this thread alone, where package syscall's function makes it for all.
func raw(nr uintptr, args ...uintptr) error {
	args = append(args, 0, 0, 0)
	if _, _, errno := unix.RawSyscall(nr, args[0], args[1], args[2]); errno != 0 {
		return errno
	}
	return nil
}

// ownersCaps are the capabilities that one id is not enough for: a process that has one of them,
// CHOWN, SETGID, SETUID or MKNOD, has its calls answered.
const ownersCaps = 1<<unix.CAP_CHOWN | 1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID | 1<<unix.CAP_MKNOD

// giveUp makes the calling thread what the process is to be.
func (in *initd) giveUp(p *process, who *user.ExecUser) error {
	keep := p.Caps
	if p.Privileged {
		keep = 1<<63 - 1
		// The filter of the others forbids what reaches a keyring.
		if err := raw(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING); err != nil && err != unix.ENOSYS {
			return fmt.Errorf("leave the session's keyring: %w", err)
		}
	}
	var h = unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	if err := unix.Capget(&h, &have[0]); err != nil {
		return fmt.Errorf("get capabilities: %w", err)
	}
	keep &= uint64(have[0].Permitted) | uint64(have[1].Permitted)<<32
	for c := range 64 {
		if keep>>c&1 == 0 {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err == unix.EINVAL {
				break // there is no such capability, nor a higher one
			} else if err != nil {
				return fmt.Errorf("drop a capability: %w", err)
			}
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("drop ambient capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil { // until the filter is loaded
		return err
	}
	if err := in.become(who); err != nil {
		return err
	}
	if !p.Privileged {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return err
		}
		if _, err := watch.Filter(p.Filter, 0); err != nil {
			return err
		}
	}
	if in.book != nil && (p.Privileged || p.Caps&ownersCaps != 0) {
		listener, err := owners.Load()
		if err != nil {
			return err
		}
		go func() {
			if err := in.book.Serve(listener); err != nil { // its end is an error of each call
				fmt.Fprintln(os.Stderr, err)
			}
		}()
	}
	if who.Uid != 0 { // as with Docker: only root's capabilities survive an exec
		keep = 0
	}
	var set [2]unix.CapUserData
	for i := range set {
		w := uint32(keep >> (32 * i))
		set[i] = unix.CapUserData{Effective: w, Permitted: w}
	}
	if err := unix.Capset(&h, &set[0]); err != nil {
		return fmt.Errorf("set capabilities: %w", err)
	}
	return nil
}

// become sets the ids of the calling thread. With one id there is nothing to set, and setgroups is forbidden.
func (in *initd) become(who *user.ExecUser) error {
	if in.ids.One() {
		return nil
	}
	// The person's groups have no ids here, and yet give access: to a device such as /dev/kvm, for which they are kept.
	if len(in.room.Devices) == 0 {
		list := make([]uint32, len(who.Sgids)+1)
		for i, g := range who.Sgids {
			list[i] = uint32(g)
		}
		err := raw(unix.SYS_SETGROUPS, uintptr(len(who.Sgids)), uintptr(unsafe.Pointer(&list[0])))
		if err != nil {
			return fmt.Errorf("set groups %v: %w", who.Sgids, err)
		}
	}
	uid, gid := uintptr(who.Uid), uintptr(who.Gid)
	if err := raw(unix.SYS_SETRESGID, gid, gid, gid); err != nil {
		return fmt.Errorf("become group %d: %w", who.Gid, err)
	}
	if err := raw(unix.SYS_SETRESUID, uid, uid, uid); err != nil {
		return fmt.Errorf("become user %d: %w", who.Uid, err)
	}
	return nil
}

// fork starts the program with what the calling thread still has.
func (in *initd) fork(p *process, who *user.ExecUser, files []*os.File) (int, chan syscall.WaitStatus, error) {
	dir := p.Dir
	if dir == "" {
		dir = "/"
	}
	if err := unix.Chdir(dir); err != nil {
		return -1, nil, fmt.Errorf("change to %s: %w", dir, err)
	}
	path, err := lookPath(p.Args[0], p.Env)
	if err != nil {
		return -1, nil, err
	}
	env := p.Env
	if _, ok := lookEnv(env, "HOME"); !ok {
		env = append(env, "HOME="+who.Home)
	}
	pidfd := -1
	attr := &syscall.ProcAttr{Env: env, Sys: &syscall.SysProcAttr{Setsid: true, Setctty: p.TTY, Ctty: 0, PidFD: &pidfd}}
	for _, f := range files {
		attr.Files = append(attr.Files, f.Fd())
	}
	ended := make(chan syscall.WaitStatus, 1)
	in.mu.Lock() // until the child is known, reap is not to miss it
	defer in.mu.Unlock()
	pid, err := syscall.ForkExec(path, p.Args, attr)
	if err != nil {
		return -1, nil, err
	}
	in.children[pid] = ended
	in.births++
	in.born.Signal()
	return pidfd, ended, nil
}

func lookEnv(env []string, name string) (value string, ok bool) {
	for _, kv := range env { // the last one counts, as for os/exec
		if v, found := strings.CutPrefix(kv, name+"="); found {
			value, ok = v, true
		}
	}
	return value, ok
}

// lookPath finds a program as execvp does, with this thread's rights.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path, ok := lookEnv(env, "PATH")
	if !ok {
		path = defaultPath
	}
	found := error(unix.ENOENT)
	for dir := range strings.SplitSeq(path, ":") {
		full := filepath.Join(dir, name)
		if !strings.Contains(full, "/") { // an empty element: here
			full = "./" + full
		}
		var st unix.Stat_t
		if err := unix.Stat(full, &st); err != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR {
			continue
		}
		if err := unix.Access(full, unix.X_OK); err != nil {
			found = err
			continue
		}
		return full, nil
	}
	return "", fmt.Errorf("look for it in %s: %w", strconv.Quote(path), found)
}

// defaultPath is Docker's.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
