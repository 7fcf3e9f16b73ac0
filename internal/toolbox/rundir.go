package toolbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kimg/kimg/internal/filelock"
)

// runPrefix begins the name of a directory for one guest's sockets.
const runPrefix = "kimg-vm-"

// socketRoom is how long a directory's path may be for a Unix socket in it: sun_path in
// unix(7) is 108 bytes (104 on the BSDs).
const socketRoom = 104 - len("/kimg.control\x00")

// runDir is a directory for one guest's sockets, or for something else that ends with this process. It is locked,
// so that the next kimg can tell it from what a killed one left behind.
type runDir struct {
	path   string
	remove func() error
}

// runParent is where they are.
func runParent() string {
	parent := os.TempDir()
	if len(parent)+len("/"+runPrefix)+10 > socketRoom {
		return "/tmp"
	}
	return parent
}

// makeRunDir makes one, and removes those that killed processes of this user left.
func makeRunDir(parent string) (*runDir, error) {
	sweepRunDirs(parent)
	dir, remove, err := filelock.NewDir(parent, runPrefix)
	if err != nil {
		return nil, fmt.Errorf("make a directory for a guest: %w", err)
	}
	return &runDir{dir, remove}, nil
}

// RunDirs are the directories of guests that may run, of every user.
func RunDirs() []string {
	dirs, _ := filepath.Glob(filepath.Join(runParent(), runPrefix+"*"))
	return dirs
}

// GuestName is the name of the guest that has a run directory.
func GuestName(dir string) string { return strings.TrimPrefix(filepath.Base(dir), runPrefix) }

// Runs says whether a guest of this user has the directory.
func Runs(dir string) bool {
	if !isOwn(dir) {
		return false
	}
	lock, err := filelock.Try(filepath.Join(dir, filelock.DirLock), os.O_RDONLY)
	if err == nil {
		_ = lock.Close()
	}
	return errors.Is(err, filelock.ErrHeld)
}

// isOwn says whether it is a directory of this user.
func isOwn(dir string) bool {
	info, err := os.Lstat(dir)
	return err == nil && info.IsDir() && isMine(info)
}

// sweepRunDirs removes this user's directories whose process has ended. Best effort: errors are ignored.
func sweepRunDirs(parent string) {
	dirs, _ := filepath.Glob(filepath.Join(parent, runPrefix+"*"))
	for _, dir := range dirs {
		if !isOwn(dir) {
			continue
		}
		// One without a lock file is being made just now, or is somebody else's.
		if lock, err := filelock.Try(filepath.Join(dir, filelock.DirLock), os.O_RDONLY); err == nil {
			_ = os.RemoveAll(dir)
			_ = lock.Close()
		}
	}
}
