// Package cache is what all rooms share that keep something in kimg's cache directory: when an entry was last used,
// which processes may still need it, and how an entry is removed without taking it from one of them. What the entries
// are is their owners' business; package builder/keep has the list of them.
//
// The time of an entry's last use is its mtime, as in cmd/go's cache. What lies elsewhere (a volume, an image) has a
// stamp in the cache directory, a small file whose mtime that is.
package cache

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kimg/kimg/internal/filelock"
)

// fresh is how old the time of a last use may grow before it is set again: most uses then only read it.
const fresh = time.Hour

// Use notes that the entry at path is used now, and reports whether it is there. A cache that cannot be written to is
// used all the same.
func Use(path string) bool {
	info, err := os.Lstat(path)
	if err != nil {
		return false
	}
	if time.Since(info.ModTime()) < fresh {
		return true
	}
	defer filelock.Dir(filepath.Dir(path), false)()
	now := time.Now()
	return !errors.Is(os.Chtimes(path, now, now), fs.ErrNotExist)
}

// stamps is the directory of stamps in a cache directory.
const stamps = "used"

// StampFile is the stamp of that name, which may be an image's.
func StampFile(dir, name string) string {
	return filepath.Join(dir, stamps, strings.NewReplacer("/", "-", ":", "-").Replace(name))
}

// Stamp notes in the cache directory dir that the thing of that name is used now; text is what its file holds.
// Best effort: a thing without a stamp only counts as one that is not known.
func Stamp(dir, name, text string) {
	file := StampFile(dir, name)
	if old, err := os.ReadFile(file); err == nil && string(old) == text && Use(file) {
		return
	}
	if os.MkdirAll(filepath.Dir(file), 0o755) == nil {
		_ = os.WriteFile(file, []byte(text), 0o644)
	}
}

// running is the directory with a file of each process that uses the cache, locked by it.
const running = "running"

// Enter notes that this process uses the cache directory dir until leave is called or it ends. Remove leaves alone what
// it uses from now on. Best effort, as a cache may be read-only.
func Enter(dir string) (leave func()) {
	dir = filepath.Join(dir, running)
	if os.MkdirAll(dir, 0o755) != nil {
		return func() {}
	}
	filelock.Sweep(dir, time.Minute) // of those that were killed
	defer filelock.Dir(dir, false)()
	f, err := filelock.NewFile(dir, "kimg-*")
	if err != nil {
		return func() {}
	}
	return func() {
		_ = os.Remove(f.Name())
		_ = f.Close()
	}
}

// oldest is when the first of the processes that use the cache began to; ok is false where there is none.
func oldest(dir string) (first time.Time, ok bool) {
	dir = filepath.Join(dir, running)
	filelock.Sweep(dir, 0)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && (!ok || info.ModTime().Before(first)) {
			first, ok = info.ModTime(), true
		}
	}
	return first, ok
}

// ErrUsed means that a process that runs may need the entry, or has used it meanwhile.
var ErrUsed = errors.New("it is in use")

// Remove calls remove for the entry, or stamp, at path of the cache directory dir unless it was used after before, or a
// process that runs may count on it: then the error is ErrUsed. The entry cannot come into use meanwhile. An entry that
// is gone is fs.ErrNotExist.
func Remove(dir, path string, before time.Time, remove func() error) error {
	defer filelock.Dir(filepath.Join(dir, running), true)() // nobody Enters
	defer filelock.Dir(filepath.Dir(path), true)()          // nobody Uses it
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	// A process that entered may have found a use fresh, and not noted its own.
	if first, ok := oldest(dir); ok && first.Add(-fresh).Before(before) {
		before = first.Add(-fresh)
	}
	if !info.ModTime().Before(before) {
		return ErrUsed
	}
	if info.Mode().IsRegular() {
		f, err := filelock.Try(path, os.O_RDONLY) // what is still written to
		if errors.Is(err, filelock.ErrHeld) {
			return ErrUsed
		}
		if err == nil {
			defer f.Close()
		}
	}
	return remove()
}
