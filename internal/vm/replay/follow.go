package replay

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// followPause is how often a file is looked at that QEMU writes.
const followPause = 30 * time.Millisecond

// follow copies a file of dir that may not be there yet and grows, until end is closed: then what it has by then. It
// follows no link out of dir, which a program of the container can write to.
func follow(dir, name string, to io.Writer, end <-chan struct{}) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	var f *os.File
	for last := false; ; {
		if f == nil {
			f, err = root.Open(name)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("follow %s: %w", name, err)
			}
			if err == nil {
				defer f.Close()
			} else {
				f = nil
			}
		}
		if f != nil {
			if _, err := io.Copy(to, f); err != nil {
				return err
			}
		}
		if last {
			return nil
		}
		select {
		case <-end:
			last = true // and once more
		case <-time.After(followPause):
		}
	}
}
