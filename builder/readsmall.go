package builder

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// readSmall reads a plain file of at most limit bytes. What is not one waits for
// nobody (a pipe without a writer would), and what is too large is not read.
func readSmall(name string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("it is not a plain file but %s", fileKind(info.Mode()))}
	case info.Size() > limit:
		return nil, tooLarge(name, limit)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit { // it grew
		err = tooLarge(name, limit)
	}
	return b, err
}

func tooLarge(name string, limit int64) error {
	return &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("it has more than %d bytes", limit)}
}
