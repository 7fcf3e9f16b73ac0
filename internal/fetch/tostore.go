package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/kimg/kimg/internal/store"
)

// ToStore downloads one file into the store, or does nothing where the store has it whole. The error tells of every
// URL that was tried; it is fs.ErrNotExist only where every server said that it does not have the file.
func (c *Client) ToStore(ctx context.Context, st *store.Store, req Request) error {
	if st.Verify(req.SHA256) == nil {
		req.arrived(req.Size)
		return nil
	}
	p, err := st.Partial(ctx, req.SHA256)
	if err != nil {
		return err
	}
	defer p.Close()
	if st.Has(req.SHA256) { // another process completed it while we waited for the Partial
		req.arrived(req.Size)
		return nil
	}
	req.arrived(p.Size())
	var failed Error
	for _, url := range req.URLs {
		err := c.fill(ctx, p, url, req)
		if err == nil {
			return nil
		}
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if errors.Is(err, syscall.ENOSPC) {
			return fmt.Errorf("download %s: %w", redacted(url), err) // no other server can help
		}
		failed.Tried = append(failed.Tried, fmt.Errorf("download %s: %w", redacted(url), err))
	}
	return &failed
}

// Error tells why a file could not be had from any of its URLs.
type Error struct{ Tried []error }

func (e *Error) Error() string {
	if len(e.Tried) == 0 {
		return "download: no URL was given"
	}
	return errors.Join(e.Tried...).Error()
}

func (e *Error) Hint() string { return networkHint }

// Is reports whether every URL failed with target.
func (e *Error) Is(target error) bool {
	for _, err := range e.Tried {
		if !errors.Is(err, target) {
			return false
		}
	}
	return len(e.Tried) > 0
}

// Unreachable reports whether no server gave an answer to speak of: others of its files are not worth trying.
func (e *Error) Unreachable() bool {
	for _, err := range e.Tried {
		if !mayHeal(err) || errors.Is(err, ErrAnother) {
			return false
		}
	}
	return len(e.Tried) > 0
}

// ErrAnother marks an answer that is another file, by its size or, arrived whole, by its digest.
var ErrAnother = errors.New("it is not the file that was asked for")

// fill downloads url into p and commits it.
func (c *Client) fill(ctx context.Context, p *store.Partial, url string, req Request) error {
	f := download{c: c, to: p, url: url, req: req, far: p.Size()}
	err := c.retry(ctx, func() (bool, error) { return f.try(ctx) })
	if err != nil {
		return err
	}
	err = f.commit(p)
	var mismatch *store.MismatchError
	if !f.pieced || !errors.As(err, &mismatch) {
		return err
	}
	// Its parts came from several answers, perhaps of another server: one in one piece tells whose fault it is.
	f.far = 0
	if err := c.retry(ctx, func() (bool, error) { return f.try(ctx) }); err != nil {
		return err
	}
	return f.commit(p)
}

// target is what a download is written to.
type target interface {
	io.Writer
	Size() int64
	Reset() error // throws away what there is
}

// download is that of one URL.
type download struct {
	c    *Client
	to   target
	url  string
	req  Request // without a SHA256: only a strong ETag vouches that what there is can be gone on from
	etag string  // of the answer that the first bytes came from; "": not known
	far  int64   // the most bytes there ever were after a step forward

	pieced bool // an answer went on from where an earlier one had ended
}

// How many bytes further than ever an answer must have brought us to count as a step forward: a connection that is
// cut again and again then still gets there. One that went on from where it was cut needs few; a server that always
// begins anew is given up.
const (
	enough       = 64 << 10
	enoughOfMore = 256
)

// try makes one request for what is missing. It reports whether it moved on.
func (d *download) try(ctx context.Context) (moved bool, err error) {
	if d.req.Size > 0 && d.to.Size() == d.req.Size {
		return true, nil
	}
	if d.req.SHA256 == "" && d.etag == "" && d.to.Size() > 0 {
		if err := d.restart(nil); err != nil {
			return false, err
		}
	}
	offset := d.to.Size()
	if d.req.Size > 0 && offset > d.req.Size {
		return false, d.restart(errRange)
	}
	b, err := d.c.open(ctx, d.url, offset, d.etag)
	if errors.Is(err, errWhole) || errors.Is(err, errRange) {
		if offset == 0 {
			return false, &refusal{err}
		}
		if err := d.restart(nil); err != nil {
			return false, err
		}
		offset = 0
		b, err = d.c.open(ctx, d.url, 0, "")
	}
	if err != nil {
		return false, err
	}
	defer b.Close()
	if err := d.checkSize(b); err != nil {
		return false, err
	}
	need := int64(enoughOfMore)
	if offset == 0 {
		d.etag, d.pieced, need = b.strongETag(), false, enough
	} else {
		d.pieced = true
	}
	_, err = io.Copy(d.to, &meter{r: io.LimitReader(b, d.limit()-offset+1), add: d.req.arrived})
	if d.to.Size() > d.limit() {
		return false, d.restart(d.tooLarge())
	}
	var disk *fs.PathError
	if errors.As(err, &disk) {
		return false, &refusal{err} // no space, most likely: the network cannot mend it
	}
	if err == nil && d.req.Size > 0 && d.to.Size() < d.req.Size {
		err = io.ErrUnexpectedEOF
	}
	if moved = d.to.Size() >= d.far+need; moved {
		d.far = d.to.Size()
	}
	return moved, err
}

// checkSize refuses an answer whose head says that it is another file, before anything of it is kept.
func (d *download) checkSize(b *body) error {
	total := b.total()
	if d.req.SHA256 == "" && total > d.limit() {
		return d.tooLarge()
	}
	if total >= 0 && (d.req.Size > 0 && total != d.req.Size || total > d.limit()) {
		what := "what the server has there"
		if kind := b.Header.Get("Content-Type"); kind != "" {
			what += " (" + kind + ")"
		}
		return &refusal{fmt.Errorf("%s is %d bytes, and should be %s: %w", what, total, d.wanted(), ErrAnother)}
	}
	return nil
}

func (d *download) tooLarge() error {
	return &refusal{fmt.Errorf("what the server sends is larger than the %d bytes it may have", d.limit())}
}

func (d *download) limit() int64 {
	if d.req.Size > 0 {
		return d.req.Size
	}
	return d.req.Max
}

func (d *download) wanted() string {
	if d.req.Size > 0 {
		return fmt.Sprint(d.req.Size)
	}
	return fmt.Sprintf("at most %d", d.req.Max)
}

// restart throws away what there is and returns err.
func (d *download) restart(err error) error {
	d.req.arrived(-d.to.Size())
	d.etag = ""
	return errors.Join(err, d.to.Reset())
}

func (d *download) commit(p *store.Partial) error {
	size := p.Size()
	err := p.Commit()
	if err != nil {
		d.req.arrived(-size)
		d.etag = ""
	}
	var mismatch *store.MismatchError
	if errors.As(err, &mismatch) {
		return fmt.Errorf("%w, and was not kept: %w", ErrAnother, err)
	}
	return err
}

func (r Request) arrived(n int64) {
	if r.Progress != nil && n != 0 {
		r.Progress(n)
	}
}

// meter tells add how many bytes went through it.
type meter struct {
	r   io.Reader
	add func(int64)
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.add(int64(n))
	return n, err
}

// ToFile downloads url, of at most max bytes, into f, which is empty. It is for a file whose digest nobody knows,
// which ToStore cannot take: so a cut transfer goes on where it was only within this call, and only where the
// server vouches by a strong ETag that it is still the same file; else it begins anew. progress may be nil; it is
// told of bytes that arrived, negative when they were thrown away. The error is fs.ErrNotExist where the server
// does not have the file.
func (c *Client) ToFile(ctx context.Context, url string, f *os.File, max int64, progress func(delta int64)) error {
	d := download{c: c, to: &file{f, 0}, url: url, req: Request{Max: max, Progress: progress}}
	if err := c.retry(ctx, func() (bool, error) { return d.try(ctx) }); err != nil {
		return fmt.Errorf("download %s: %w", redacted(url), err)
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
