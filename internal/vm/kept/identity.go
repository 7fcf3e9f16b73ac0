package kept

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/kimg/kimg/internal/inode"
)

// FileID names what a file holds without reading it: its path, inode, size, and when it was last written to. A copy is
// another file. That a recording links to it changes nothing.
func FileID(name string) (string, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(abs)
	if err != nil {
		return "", err
	}
	id := inode.Of(info)
	return fmt.Sprintf("%s %d %d %d %d", abs, info.Size(), info.ModTime().UnixNano(), id.Device, id.Inode), nil
}
