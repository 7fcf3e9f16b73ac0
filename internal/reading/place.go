package reading

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// CheckPlace refuses a file to be written in a directory that is not there. What writes it would name the temporary
// file beside it, of which its user knows nothing.
func CheckPlace(file string) error {
	dir := filepath.Dir(file)
	if st, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write %s: there is no directory %s", file, dir)
	} else if err == nil && !st.IsDir() {
		return fmt.Errorf("write %s: %s is no directory", file, dir)
	}
	return nil
}
