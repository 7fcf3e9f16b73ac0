package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// ToFile downloads url, of at most max bytes, into f, which is empty. It is for a file whose digest nobody knows,
// which ToStore cannot take: so a cut transfer goes on where it was only within this call, and only where the
// server vouches by a strong ETag that it is still the same file; else it begins anew. progress may be nil; it is
// told of bytes that arrived, negative when they were thrown away. The error is fs.ErrNotExist where the server
// does not have the file.
func (c *Client) ToFile(ctx context.Context, url string, f *os.File, max int64, progress func(delta int64)) error {
	d := fileDownload{c: c, url: url, f: f, max: max, req: Request{Progress: progress}}
	if err := c.retry(ctx, func() (bool, error) { return d.try(ctx) }); err != nil {
		return fmt.Errorf("download %s: %w", url, err)
	}
	return nil
}

type fileDownload struct {
	c    *Client
	url  string
	f    *os.File
	max  int64
	req  Request // for its Progress
	size int64   // bytes there are
	far  int64   // the most bytes there ever were after a step forward
	etag string  // of the answer they came from; "": none that can be relied on
}

// try makes one request for what is missing. It reports whether it moved on.
func (d *fileDownload) try(ctx context.Context) (moved bool, err error) {
	if d.etag == "" {
		if err := d.restart(); err != nil {
			return false, err
		}
	}
	b, err := d.c.open(ctx, d.url, d.size, d.etag)
	if d.size > 0 && (errors.Is(err, errWhole) || errors.Is(err, errRange)) {
		if err := d.restart(); err != nil {
			return false, err
		}
		b, err = d.c.open(ctx, d.url, 0, "")
	}
	if err != nil {
		return false, err
	}
	defer b.Close()
	if b.total() > d.max {
		return false, d.tooLarge()
	}
	if d.size == 0 {
		d.etag = b.strongETag()
	}
	n, err := io.Copy(d.f, &meter{r: io.LimitReader(b, d.max-d.size+1), add: d.req.arrived})
	if d.size += n; d.size > d.max {
		return false, d.tooLarge()
	}
	var disk *fs.PathError
	if errors.As(err, &disk) {
		return false, &refusal{err} // no space, most likely: the network cannot mend it
	}
	if moved = d.size >= d.far+enough; moved {
		d.far = d.size
	}
	return moved, err
}

func (d *fileDownload) tooLarge() error {
	return &refusal{fmt.Errorf("what the server sends is larger than the %d bytes it may have", d.max)}
}

func (d *fileDownload) restart() error {
	if d.size == 0 {
		return nil
	}
	d.req.arrived(-d.size)
	d.size, d.etag = 0, ""
	if err := d.f.Truncate(0); err != nil {
		return &refusal{err}
	}
	if _, err := d.f.Seek(0, io.SeekStart); err != nil {
		return &refusal{err}
	}
	return nil
}
