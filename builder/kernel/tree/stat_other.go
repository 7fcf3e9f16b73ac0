//go:build !linux

package tree

import (
	"io/fs"
	"os"
	"syscall"
)

// changed is not asked for here: its field has another name on each system.
func changed(*syscall.Stat_t) int64 { return 0 }

// lstatIn looks at an File of an open directory.
func lstatIn(_ *os.File, de fs.DirEntry) (fs.FileMode, Stat, error) {
	fi, err := de.Info()
	if err != nil {
		return 0, Stat{}, err
	}
	return fi.Mode(), StatOf(fi), nil
}
