package toolbox

import (
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownGroup keeps a terminal's Ctrl-C from the program: it is the guest's command
// that gets it. The program ends with kimg, even when kimg is killed.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// memoryFile makes a file that is in memory only, and gone with the processes that have it open. The name is for
// programs of this user; empty: there is none.
func memoryFile() (name string, f io.Closer) {
	fd, err := unix.MemfdCreate("kimg", unix.MFD_CLOEXEC)
	if err != nil {
		return "", nil
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd), os.NewFile(uintptr(fd), "kimg")
}
