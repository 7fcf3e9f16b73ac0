package reading

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// Small reads a plain file of at most limit bytes. It never waits for one that is none (a pipe without a writer
// would make it), and a file that is too large is not read. Errors are *fs.PathError.
func Small(name string, limit int64) ([]byte, error) {
	f, err := Open(name)
	if err != nil {
		return nil, err
	}
	return small(f, name, limit)
}

// Open opens a file that may be a pipe, as a shell's <(COMMAND) is, but does not wait for one that nobody writes to:
// that reads as empty.
func Open(name string) (*os.File, error) { return os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) }

// SmallIn is Small for a file below a root.
func SmallIn(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return small(f, name, limit)
}

func small(f *os.File, name string, limit int64) ([]byte, error) {
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("it is not a plain file but %s",
			Kind(info.Mode()))}
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

// Kind says in words what is not a plain file.
func Kind(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&fs.ModeSymlink != 0:
		return "a link"
	case m&fs.ModeNamedPipe != 0:
		return "a pipe"
	}
	return "a special file"
}
