package filelock

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// leftAfter is for how long a file that nobody has locked may be one that is about to be.
const leftAfter = time.Minute

// numberLength is what renameio's random numbers nearly always have, in digits. Files of a person's own have less.
const numberLength = 15

// Replace begins a file that takes the place of the one at path when it is whole, as renameio.NewPendingFile does. It
// grows beside it, on the disk that it is meant for, and is locked until then: what a killed process left of one goes
// when the next is begun.
func Replace(path string, options ...renameio.Option) (*renameio.PendingFile, error) {
	dir, base := filepath.Split(path)
	dir = filepath.Clean(dir)
	sweepBeside(dir, "."+base)
	f, err := renameio.NewPendingFile(path, append(options, renameio.WithTempDir(dir))...)
	if err == nil {
		_ = lock(f.File, unix.LOCK_EX|unix.LOCK_NB) // a file system without locks sweeps nothing either
	}
	return f, err
}

// sweepBeside removes the files of a directory, called by a prefix and a number, that no process holds.
func sweepBeside(dir, prefix string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		number, is := strings.CutPrefix(e.Name(), prefix)
		if !is || len(number) < numberLength || strings.Trim(number, "0123456789") != "" {
			continue
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			sweepOne(filepath.Join(dir, e.Name()), info, leftAfter)
		}
	}
}
