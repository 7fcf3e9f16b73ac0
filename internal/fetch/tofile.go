package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// ToFile downloads url, of at most max bytes, into f, which is empty. It is for a file whose digest nobody knows,
// which ToStore cannot take: so a cut transfer goes on where it was only within this call, and only where the
// server vouches by a strong ETag that it is still the same file; else it begins anew. progress may be nil; it is
// told of bytes that arrived, negative when they were thrown away. The error is fs.ErrNotExist where the server
// does not have the file.
func (c *Client) ToFile(ctx context.Context, url string, f *os.File, max int64, progress func(delta int64)) error {
	d := download{c: c, to: &file{f, 0}, url: url, req: Request{Max: max, Progress: progress}}
	if err := c.retry(ctx, func() (bool, error) { return d.try(ctx) }); err != nil {
		return fmt.Errorf("download %s: %w", url, err)
	}
	return nil
}

// file is a target that was empty.
type file struct {
	f    *os.File
	size int64
}

func (f *file) Size() int64 { return f.size }

func (f *file) Write(p []byte) (int, error) {
	n, err := f.f.Write(p)
	f.size += int64(n)
	return n, err
}

func (f *file) Reset() error {
	f.size = 0
	_, err := f.f.Seek(0, io.SeekStart)
	return errors.Join(err, f.f.Truncate(0))
}
