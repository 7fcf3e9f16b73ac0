package kept

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/kimg/kimg/internal/inode"
)

// FileID names what a file holds without reading it: its path, inode, size, and the times of its last changes, of which
// nobody can set the one that the file system keeps for itself. A copy is another file.
func FileID(name string) (string, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(abs)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %d %d %v", abs, info.Size(), info.ModTime().UnixNano(), inode.Of(info)), nil
}
