// Package lettercase knows file systems that take FILE and file for one name, as macOS's usual one does: see [Pair] and
// [Folds].
package lettercase

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Error says that two names that differ by case only cannot both be in a directory.
type Error struct {
	Dir        string
	One, Other string // below it; Other may be unknown
}

func (e *Error) Error() string {
	other := e.Other
	if other == "" {
		other = "another name"
	}
	return fmt.Sprintf("write to %s: %s and %s differ by case only, which the file system there does not tell apart",
		e.Dir, e.One, other)
}

// Hint says where they can.
func (e *Error) Hint() string {
	return "use a directory of a case-sensitive file system; on macOS a volume of its own: " +
		"diskutil apfs addVolume disk1 'Case-sensitive APFS' kernels"
}

// Pair finds two names that differ by case only.
func Pair(names []string) (one, other string, ok bool) {
	seen := make(map[string]string, len(names))
	for _, n := range names {
		folded := strings.ToLower(n)
		if was, ok := seen[folded]; ok && was != n {
			return was, n, true
		}
		seen[folded] = n
	}
	return "", "", false
}

// Folds reports whether a directory, which may be written to, takes such names for one.
func Folds(dir string) (bool, error) {
	probe, err := os.MkdirTemp(dir, ".kimg-case-*")
	if err != nil {
		return false, err
	}
	defer os.Remove(probe)
	other, err := os.Lstat(filepath.Join(dir, strings.ToUpper(filepath.Base(probe))))
	if err != nil {
		if os.IsNotExist(err) {
			err = nil
		}
		return false, err
	}
	return same(probe, other), nil
}

func same(name string, other fs.FileInfo) bool {
	info, err := os.Lstat(name)
	return err == nil && os.SameFile(info, other)
}
