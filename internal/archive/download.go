package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"time"

	"github.com/kimg/kimg/internal/fetch"
	"github.com/kimg/kimg/internal/store"
	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
	"golang.org/x/sync/errgroup"
)

// parallel is how many packages are downloaded at once: enough to hide a mirror's latency.
const parallel = 8

// maxReported bounds how many broken downloads one message lists: most often they have one reason.
const maxReported = 5

// MissingError lists all locked packages that can no longer be downloaded.
type MissingError struct {
	Packages []Locked
	Mirror   string // the base URL that no longer has them
	Snapshot string // the base URL that was tried then; "": the archive has no such service
	Err      error  // why the snapshot service did not help, for one of them
}

func (e *MissingError) Hint() string {
	if e.Snapshot == "" {
		return "an archive that has moved on has others: kimg lock update suite takes them; where its lists still " +
			"name these, its owner has to mend it, and meanwhile leave them out of --include"
	}
	return "name an archive that has them with --mirror, or a snapshot service with KIMG_SNAPSHOT"
}

func (e *MissingError) Error() string {
	var b strings.Builder
	if n := len(e.Packages); n == 1 {
		b.WriteString("a package is")
	} else {
		fmt.Fprintf(&b, "%d packages are", n)
	}
	fmt.Fprintf(&b, " gone from %s", e.Mirror)
	if e.Snapshot != "" {
		fmt.Fprintf(&b, ", and %s does not give them (%s)", e.Snapshot, oneLine(e.Err))
	}
	for _, p := range e.Packages {
		fmt.Fprintf(&b, "\n  %s %s", p.Name, p.Version)
		if e.Snapshot == "" { // whoever mends the archive wants to know
			fmt.Fprintf(&b, " (%s/%s)", e.Mirror, p.Filename)
		}
	}
	return b.String()
}

// oneLine is a reason of several tries on one line.
func oneLine(err error) string {
	if err == nil {
		return "no reason is known"
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

// Fetch downloads packages into the store, from the mirror or else, as of the time at, from the snapshot service.
// progress may be nil; it is called from many goroutines with the bytes that arrived and the size of all packages.
// Packages that neither the mirror nor the snapshot service has are a *MissingError; a file of the mirror's that is
// not the locked one is an error unless the snapshot service has the right one. An archive of no suite has no such
// service.
func (c *Client) Fetch(ctx context.Context, s suite.Suite, packages []Locked, at time.Time,
	progress func(delta, total int64)) error {

	d := downloads{http: c.HTTP, store: c.Store, bases: []string{c.Mirror.URL}, progress: withTotal(packages, progress)}
	left := d.fetch(ctx, packages)
	if err := context.Cause(ctx); err != nil || len(left) == 0 {
		return err
	}
	firsts := make(map[units.Digest]error)
	packages = nil
	for _, f := range left {
		firsts[f.SHA256] = f.err
		packages = append(packages, f.Locked)
	}
	missing := &MissingError{Mirror: c.Mirror.URL}
	var wrong []error
	if s.Family != nil {
		// Many networks cannot reach the snapshot service: less patience.
		d.http = &fetch.Client{HTTP: c.HTTP.HTTP, Retries: 1, Backoff: c.HTTP.Backoff, Stall: c.HTTP.Stall}
		d.bases = c.snapshotURLs(s.Family, at)
		missing.Snapshot = d.bases[0]
		left = d.fetch(ctx, packages)
	}
	for _, f := range left {
		first := firsts[f.SHA256]
		if errors.Is(first, fs.ErrNotExist) {
			missing.Packages, missing.Err = append(missing.Packages, f.Locked), f.err
		} else if len(wrong) < maxReported {
			wrong = append(wrong, fmt.Errorf("fetch package %s %s: %w", f.Name, f.Version, first))
		}
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	switch {
	case len(wrong) > 0 && len(missing.Packages) > 0:
		// Not a MissingError: resolving the packages anew does not cure what is wrong.
		return errors.Join(append(wrong, errors.New(missing.Error()))...)
	case len(wrong) > 0:
		return errors.Join(wrong...)
	case len(missing.Packages) > 0:
		return missing
	}
	return nil
}

// FetchFrom is Fetch from an archive besides a suite's own. An error is a *MissingError or a *LineError.
func (c *Client) FetchFrom(ctx context.Context, l Line, packages []Locked, at time.Time,
	progress func(delta, total int64)) error {
	err := c.Fetch(ctx, suite.Suite{}, packages, at, progress)
	var missing *MissingError
	if err == nil || errors.As(err, &missing) || ctx.Err() != nil {
		return err
	}
	return lineError(l, err)
}

// withTotal calls progress with the size of all packages, those that the store has included.
func withTotal(packages []Locked, progress func(delta, total int64)) func(delta int64) {
	if progress == nil {
		return nil
	}
	var total int64
	for _, p := range packages {
		total += p.Size
	}
	return func(delta int64) { progress(delta, total) }
}

// failed is a package that could not be downloaded.
type failed struct {
	Locked
	err error
}

// downloads are downloads from one server.
type downloads struct {
	http     *fetch.Client
	store    *store.Store
	bases    []string // of the archive, tried in this order
	progress func(int64)
}

// fetch returns the packages that failed. Once the server was out of reach for one, no other is tried.
func (d downloads) fetch(ctx context.Context, packages []Locked) []failed {
	var g errgroup.Group
	g.SetLimit(parallel)
	errs := make([]error, len(packages))
	var down atomic.Pointer[fetch.Error]
	for i, p := range packages {
		g.Go(func() error {
			if errs[i] = context.Cause(ctx); errs[i] != nil {
				return nil
			}
			if err := down.Load(); err != nil {
				errs[i] = err
				return nil
			}
			for _, base := range d.bases {
				err := d.http.ToStore(ctx, d.store, fetch.Request{
					URLs: []string{base + "/" + p.Filename}, Size: p.Size, SHA256: p.SHA256, Progress: d.progress})
				if err == nil {
					errs[i] = nil
					break
				}
				errs[i] = cmp.Or(errs[i], err)
				if f := (*fetch.Error)(nil); errors.As(err, &f) && f.Unreachable() {
					down.Store(f)
					break // the bases are of one server
				}
			}
			return nil
		})
	}
	_ = g.Wait() // its functions return none
	var all []failed
	for i, err := range errs {
		if err != nil {
			all = append(all, failed{Locked: packages[i], err: err})
		}
	}
	return all
}
