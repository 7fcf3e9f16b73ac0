package reading

import (
	"bufio"
	"errors"
	"io"
)

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
