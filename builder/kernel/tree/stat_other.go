//go:build !linux

package tree

import (
	"io/fs"
	"os"
)

// lstatIn looks at a file of an open directory.
func lstatIn(_ *os.File, de fs.DirEntry) (fs.FileMode, Stat, error) {
	fi, err := de.Info()
	if err != nil {
		return 0, Stat{}, err
	}
	return fi.Mode(), StatOf(fi), nil
}
