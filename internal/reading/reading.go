// Package reading has readers that end sooner than what they read: with a context,
// or at a bound. It must not know what is read.
package reading

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"syscall"
)

// Until reads r until ctx ends; the error is then the context's cause.
func Until(ctx context.Context, r io.Reader) io.Reader { return until{ctx, r} }

type until struct {
	ctx context.Context
	r   io.Reader
}

func (u until) Read(p []byte) (int, error) {
	if err := context.Cause(u.ctx); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// Bounded reads r and gives tooMuch where more than left bytes come, for what is small only while it is packed.
func Bounded(r io.Reader, left int64, tooMuch error) io.Reader {
	return &bounded{r, left, tooMuch}
}

type bounded struct {
	r       io.Reader
	left    int64
	tooMuch error
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, b.tooMuch
	}
	return n, err
}

// LongLineError says that a line is longer than it may be.
type LongLineError struct{ Limit int } // bytes

func (e *LongLineError) Error() string { return fmt.Sprintf("a line has more than %d bytes", e.Limit) }

// Lines yields r's lines without their ends, the last one also where it has none. A line of more than limit bytes
// is skipped: a *LongLineError stands for it. Any other error is r's, and the last that is yielded.
func Lines(r io.Reader, limit int) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		in := bufio.NewReader(r)
		var line []byte
		for {
			piece, err := in.ReadSlice('\n')
			if len(line) <= limit {
				line = append(line, piece...)
			}
			if errors.Is(err, bufio.ErrBufferFull) {
				continue
			}
			ended := err != nil
			switch text := bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r")); {
			case len(text) > limit:
				if !yield("", &LongLineError{limit}) {
					return
				}
			case len(line) > 0:
				if !yield(string(text), nil) {
					return
				}
			}
			if ended {
				if !errors.Is(err, io.EOF) {
					yield("", err)
				}
				return
			}
			line = line[:0]
		}
	}
}

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

// SizeError says that a file is larger than it may be.
type SizeError struct{ Limit int64 } // in bytes

func (e *SizeError) Error() string { return fmt.Sprintf("it has more than %d bytes", e.Limit) }

func tooLarge(name string, limit int64) error {
	return &fs.PathError{Op: "read", Path: name, Err: &SizeError{limit}}
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

var errUnread = errors.New("nothing reads on")

// Pipe runs write and read side by side with a pipe between them, and returns when both have. Where write fails,
// read's stream breaks off with its error, which is the one that is returned: what read makes of it explains less.
// Where read ends first, write's next Write fails, and read's error is returned.
func Pipe(write func(io.Writer) error, read func(io.Reader) error) error {
	r, w := io.Pipe()
	wrote := make(chan error, 1)
	go func() {
		b := bufio.NewWriterSize(w, 1<<18)
		err := write(b)
		if err == nil {
			err = b.Flush()
		}
		w.CloseWithError(err)
		wrote <- err
	}()
	err := read(r)
	r.CloseWithError(errUnread)
	if bad := <-wrote; bad != nil && !errors.Is(bad, errUnread) {
		return bad
	}
	return err
}
