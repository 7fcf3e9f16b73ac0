package vm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// runPrefix begins the name of a directory for one guest's sockets.
const runPrefix = "kimg-vm-"

// socketRoom is what a Unix socket's path may leave free for its name:
// sun_path in unix(7) is 108 bytes (104 on the BSDs).
const socketRoom = 104 - len("/kimg.control\x00")

// runDir is a directory for one guest's sockets, or what else is its own. Its lock is this process's, so
// that the next kimg can tell it from what a killed one left behind.
type runDir struct {
	path string
	lock *flock.Flock
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
func makeRunDir() (*runDir, error) { return makeRunDirIn(runParent()) }

func makeRunDirIn(parent string) (*runDir, error) {
	sweepRunDirs(parent)
	for tries := 0; ; tries++ {
		d, err := newRunDir(parent)
		if err == nil {
			return d, nil
		}
		// Another kimg's sweep came between the directory and its lock.
		if tries == 10 || !errors.Is(err, errSwept) {
			return nil, fmt.Errorf("make a directory for a guest: %w", err)
		}
	}
}

var errSwept = errors.New("it was taken away")

func newRunDir(parent string) (*runDir, error) {
	dir, err := os.MkdirTemp(parent, runPrefix)
	if err != nil {
		return nil, err
	}
	d := &runDir{path: dir, lock: flock.New(filepath.Join(dir, lockFile))}
	ok, err := d.lock.TryLock()
	if errors.Is(err, os.ErrNotExist) || err == nil && !ok {
		return nil, errSwept
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	if _, err := os.Stat(filepath.Join(dir, lockFile)); err != nil {
		_ = d.lock.Unlock()
		return nil, errSwept
	}
	return d, nil
}

// lockFile is in every run directory.
const lockFile = "lock"

// remove removes the directory and lets go of its lock.
func (d *runDir) remove() error {
	return errors.Join(os.RemoveAll(d.path), d.lock.Unlock())
}

// sweepRunDirs removes this user's directories whose owner is gone. It is a
// courtesy: what it cannot do is no error.
func sweepRunDirs(parent string) {
	dirs, _ := filepath.Glob(filepath.Join(parent, runPrefix+"*"))
	for _, dir := range dirs {
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() || !isMine(info) {
			continue
		}
		lock := flock.New(filepath.Join(dir, lockFile), flock.SetFlag(os.O_RDONLY))
		// One without a lock file is being made just now, or no business of ours.
		if ok, err := lock.TryLock(); err == nil && ok {
			_ = os.RemoveAll(dir)
			_ = lock.Unlock()
		}
	}
}
