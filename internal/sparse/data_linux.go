package sparse

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Data returns the next piece of a file of size bytes, at or behind from, that may hold anything but zeros. start
// is size where there is none. A file system that does not tell its holes says that all is data (lseek(2),
// SEEK_DATA). The file's offset moves.
func Data(f *os.File, from, size int64) (start, end int64, err error) {
	if from >= size {
		return size, size, nil
	}
	start, err = f.Seek(from, unix.SEEK_DATA)
	switch {
	case errors.Is(err, syscall.ENXIO): // a hole up to the end
		return size, size, nil
	case errors.Is(err, syscall.EINVAL):
		return from, size, nil
	case err != nil:
		return 0, 0, fmt.Errorf("find data in %s: %w", f.Name(), err)
	}
	end, err = f.Seek(start, unix.SEEK_HOLE)
	if err != nil {
		return 0, 0, fmt.Errorf("find data in %s: %w", f.Name(), err)
	}
	if start >= size || end <= start { // the file changes under the reader
		return size, size, nil
	}
	return start, min(end, size), nil
}
