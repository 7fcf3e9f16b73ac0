package outdir

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// qemuWrites is the byte of an image that a QEMU locks, shared, as long as it may write to it: RAW_LOCK_PERM_BASE
// and the bit of BLK_PERM_WRITE (QEMU's block/file-posix.c). It does so inside of a container too.
const qemuWrites = 100 + 1

// InUse reports whether a guest may be writing to an image now.
func InUse(name string) (bool, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: qemuWrites, Len: 1}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
		return false, nil // a file system without locks cannot tell
	}
	return lock.Type != unix.F_UNLCK, nil
}
