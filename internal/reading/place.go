package reading

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

var nameRE = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)

// CheckName is an error for what cannot be the name, of at most so many bytes, of something that kimg keeps in a file.
func CheckName(name string, most int) error {
	if len(name) > most || !nameRE.MatchString(name) {
		return fmt.Errorf("%.150q: want a name of at most %d letters, digits, and . _ -, that begins with none of . -",
			name, most)
	}
	return nil
}

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
