package watch

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// View is what a thread sees of other threads and their files. It is for one thread, to which its goroutine is locked
// for good: its root, and that of all threads that share it (CLONE_FS), becomes others'.
type View struct {
	Proc int // /proc, whatever the thread's root is
	root Root
}

// Root names the root of a thread. While a thread has it, no other directory gets its name.
type Root struct{ mount, dev, ino uint64 }

// NewView needs /proc to be of the caller's pid namespace.
func NewView() (*View, error) {
	proc, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /proc: %w", err)
	}
	return &View{Proc: proc}, nil
}

// Close closes Proc.
func (v *View) Close() error { return unix.Close(v.Proc) }

// Of is a name in the directory of a thread, relative to Proc.
func (v *View) Of(pid int, name string) string { return strconv.Itoa(pid) + "/" + name }

// Enter gives this thread the root of another, and returns it. The working directory is then anywhere. It takes
// SYS_CHROOT, and SYS_PTRACE for threads of other users.
func (v *View) Enter(pid int) (Root, error) {
	name := v.Of(pid, "root")
	var x unix.Statx_t
	if err := unix.Statx(v.Proc, name, 0, unix.STATX_INO|unix.STATX_MNT_ID, &x); err != nil {
		return Root{}, err
	}
	is := Root{x.Mnt_id, unix.Mkdev(x.Dev_major, x.Dev_minor), x.Ino}
	if is == v.root {
		return is, nil
	}
	fd, err := unix.Openat(v.Proc, name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return Root{}, err
	}
	defer unix.Close(fd)
	if err := unix.Fchdir(fd); err != nil {
		return Root{}, err
	}
	v.root = Root{}
	if err := unix.Chroot("."); err != nil {
		return Root{}, err
	}
	v.root = is
	return is, nil
}

// Read returns the beginning of a file of a thread's directory, no more than a page.
func (v *View) Read(pid int, name string) ([]byte, error) {
	fd, err := unix.Openat(v.Proc, v.Of(pid, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	b := make([]byte, page)
	n, err := f.Read(b)
	return b[:n], err
}

// Status is what a thread's /proc/PID/status has.
type Status []byte

// Status reads it.
func (v *View) Status(pid int) (Status, error) { return v.Read(pid, "status") }

// Line is what follows a name and its colon.
func (s Status) Line(name string) string {
	_, rest, _ := bytes.Cut(s, []byte("\n"+name+":\t"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	return string(line)
}

// Number is one, to a base.
func (s Status) Number(name string, base int) (uint64, error) {
	return strconv.ParseUint(s.Line(name), base, 64)
}

// Has reports whether an effective capability is there.
func (s Status) Has(capability int) (bool, error) {
	n, err := s.Number("CapEff", 16)
	return n>>capability&1 == 1, err
}
