// Package fetch downloads over HTTP: in parallel, with retries, resuming what
// was cut off in this run or an earlier one, and never keeping a file that is
// not the one that was asked for. It must not know what the files are.
package fetch

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/kimg/kimg/internal/store"
	"github.com/kimg/kimg/internal/units"
)

// Client downloads. The zero value works.
type Client struct {
	HTTP    *http.Client  // nil: NewHTTP(nil)
	Retries int           // tries after the first, for each URL; 0: 4, negative: none
	Backoff time.Duration // the wait before the first retry, doubled each time; 0: half a second
	Stall   time.Duration // a transfer without a byte for this long counts as cut; 0: 30 s
}

// Request names one file for the store.
type Request struct {
	URLs     []string          // where it may be had, tried in order
	Size     int64             // bytes; 0: not known, bounded by Max
	Max      int64             // the most bytes to take where Size is 0
	SHA256   units.Digest      // what it must be
	Progress func(delta int64) // may be nil; called from many goroutines; negative when bytes turned out to be wrong
}

// Get downloads url, of at most max bytes, to w. It is for small things: it is
// tried again from the start, so w sees nothing before all has arrived.
func (c *Client) Get(ctx context.Context, url string, w io.Writer, max int64) error {
	return errors.ErrUnsupported
}

// ToStore downloads one file into the store, or does nothing where the store has it.
func (c *Client) ToStore(ctx context.Context, st *store.Store, req Request) error {
	return errors.ErrUnsupported
}

// All is ToStore for many files, parallel of them at once. It goes on after
// an error, so that one message tells of every file; the errors are joined.
func (c *Client) All(ctx context.Context, st *store.Store, reqs []Request, parallel int) error {
	return errors.ErrUnsupported
}
