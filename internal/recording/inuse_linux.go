package recording

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// inUse says whether a QEMU has a disk open: then it has locked bytes of it, from 100 on, as docs/interop of QEMU and
// its block/file-posix.c say.
func inUse(name string) bool {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: 100, Len: 200}
	if unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock) != nil {
		return false
	}
	return lock.Type != unix.F_UNLCK
}
