package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kimg/kimg/internal/fetch"
)

// parallel is how many packages are fetched at once: enough to hide a mirror's
// latency, few enough to be a polite guest.
const parallel = 8

// MissingError tells of locked packages that can no longer be had.
type MissingError struct {
	Packages []Locked
	Mirror   string // the base URL that no longer has them
	Snapshot string // the base URL that was asked then
	Err      error  // why the snapshot service did not help, for one of them
}

func (e *MissingError) Error() string {
	var names []string
	for _, p := range e.Packages {
		names = append(names, p.Name+" "+p.Version)
	}
	if len(names) > 5 {
		names = append(names[:5], fmt.Sprintf("and %d more", len(names)-5))
	}
	return fmt.Sprintf("packages are gone from %s, and %s does not give them: %s (%v): resolve them anew, or name a mirror that has them",
		e.Mirror, e.Snapshot, strings.Join(names, ", "), e.Err)
}

// Fetch brings packages into the store, from the mirror or else, as of the time
// at, from the snapshot service. progress may be nil; it is called from many
// goroutines with the bytes that arrived. Packages that the mirror no longer has
// and the snapshot service does not give are a *MissingError.
func (c *Client) Fetch(ctx context.Context, s Suite, packages []Locked, at time.Time, progress func(delta int64)) error {
	gone, err := c.fetchFrom(ctx, c.Mirror.URL, packages, progress)
	if err != nil {
		return err
	}
	if len(gone) == 0 {
		return nil
	}
	// The first goes alone: where the service cannot be reached, one has waited
	// for it and not all.
	snapshot := c.snapshotURL(s.Family, at)
	missing := &MissingError{Mirror: c.Mirror.URL, Snapshot: snapshot}
	if missing.Err = c.fetchOne(ctx, snapshot, gone[0], progress); missing.Err != nil && !errors.Is(missing.Err, fs.ErrNotExist) {
		missing.Packages = gone
		return causeOr(ctx, missing)
	}
	if missing.Err != nil {
		missing.Packages = gone[:1]
	}
	more, err := c.fetchFrom(ctx, snapshot, gone[1:], progress)
	if err != nil {
		missing.Packages, missing.Err = gone, err
		return causeOr(ctx, missing)
	}
	if missing.Packages = append(missing.Packages, more...); len(missing.Packages) > 0 {
		missing.Err = fs.ErrNotExist
		return causeOr(ctx, missing)
	}
	return nil
}

// causeOr tells of an interruption rather than of what it broke.
func causeOr(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// fetchFrom fetches from one archive. gone are the packages that it does not
// have; the error tells of those that failed otherwise.
func (c *Client) fetchFrom(ctx context.Context, base string, packages []Locked, progress func(int64)) (gone []Locked, err error) {
	var g errgroup.Group
	g.SetLimit(parallel)
	var mu sync.Mutex
	var failed []error
	for _, p := range packages {
		g.Go(func() error {
			if ctx.Err() != nil {
				return nil // told below
			}
			err := c.fetchOne(ctx, base, p, progress)
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, fs.ErrNotExist) {
				gone = append(gone, p)
			} else if err != nil {
				failed = append(failed, fmt.Errorf("fetch package %s %s: %w", p.Name, p.Version, err))
			}
			return nil
		})
	}
	_ = g.Wait() // its functions give none
	return gone, causeOr(ctx, errors.Join(failed...))
}

func (c *Client) fetchOne(ctx context.Context, base string, p Locked, progress func(int64)) error {
	return c.HTTP.ToStore(ctx, c.Store, fetch.Request{
		URLs: []string{base + "/" + p.Filename}, Size: p.Size, SHA256: p.SHA256, Progress: progress})
}
