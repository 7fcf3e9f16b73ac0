package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kimg/kimg/internal/fetch"
	"github.com/kimg/kimg/internal/store"
	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
)

// parallel is how many packages are fetched at once: enough to hide a mirror's
// latency, few enough to be a polite guest.
const parallel = 8

// maxTold bounds how many broken downloads one message tells of: they most often
// have one reason.
const maxTold = 5

// MissingError tells of locked packages that can no longer be had: of all of them,
// so that no one has to find them out one by one.
type MissingError struct {
	Packages []Locked
	Mirror   string // the base URL that no longer has them
	Snapshot string // the base URL that was asked then
	Err      error  // why the snapshot service did not help, for one of them
}

// Hint says who may have them.
func (e *MissingError) Hint() string {
	return "name an archive that has them with --mirror, or a snapshot service with KIMG_SNAPSHOT"
}

func (e *MissingError) Error() string {
	var b strings.Builder
	if n := len(e.Packages); n == 1 {
		b.WriteString("a package is")
	} else {
		fmt.Fprintf(&b, "%d packages are", n)
	}
	fmt.Fprintf(&b, " gone from %s, and %s does not give them (%s)", e.Mirror, e.Snapshot, oneLine(e.Err))
	for _, p := range e.Packages {
		fmt.Fprintf(&b, "\n  %s %s", p.Name, p.Version)
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

// Fetch brings packages into the store, from the mirror or else, as of the time
// at, from the snapshot service. progress may be nil; it is called from many
// goroutines with the bytes that arrived and those that all packages are.
// Packages that the mirror does not have any more and the snapshot service does
// not give are a *MissingError; what a mirror has, but wrong, is an error unless
// the snapshot service has it right.
func (c *Client) Fetch(ctx context.Context, s suite.Suite, packages []Locked, at time.Time, progress func(delta, total int64)) error {
	arrived := tell(packages, progress)
	left := fetchFrom(ctx, c.HTTP, c.Store, []string{c.Mirror.URL}, packages, arrived)
	if err := context.Cause(ctx); err != nil || len(left) == 0 {
		return err
	}
	firsts := make(map[units.Digest]error)
	packages = nil
	for _, f := range left {
		firsts[f.SHA256] = f.err
		packages = append(packages, f.Locked)
	}
	snapshots := c.snapshotURLs(s.Family, at)
	missing := &MissingError{Mirror: c.Mirror.URL, Snapshot: snapshots[0]}
	var wrong []error
	for _, f := range fetchFrom(ctx, c.lessPatient(), c.Store, snapshots, packages, arrived) {
		first := firsts[f.SHA256]
		if errors.Is(first, fs.ErrNotExist) {
			missing.Packages, missing.Err = append(missing.Packages, f.Locked), f.err
		} else if len(wrong) < maxTold {
			wrong = append(wrong, fmt.Errorf("fetch package %s %s: %w", f.Name, f.Version, first))
		}
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	switch {
	case len(wrong) > 0 && len(missing.Packages) > 0:
		// Not as a MissingError: that what is wrong be resolved anew is no way out.
		return errors.Join(append(wrong, errors.New(missing.Error()))...)
	case len(wrong) > 0:
		return errors.Join(wrong...)
	case len(missing.Packages) > 0:
		return missing
	}
	return nil
}

// lessPatient is for a service that is asked only where the mirror could not
// help, and that many networks cannot reach.
func (c *Client) lessPatient() *fetch.Client {
	return &fetch.Client{HTTP: c.HTTP.HTTP, Retries: 1, Backoff: c.HTTP.Backoff, Stall: c.HTTP.Stall}
}

// tell is progress with the total, which what the store has already is part of: it
// arrives at once. nil for none.
func tell(packages []Locked, progress func(delta, total int64)) func(delta int64) {
	if progress == nil {
		return nil
	}
	var total int64
	for _, p := range packages {
		total += p.Size
	}
	return func(delta int64) { progress(delta, total) }
}

// failed is a package that could not be fetched.
type failed struct {
	Locked
	err error
}

// fetchFrom fetches from an archive, whose bases are tried in order, and returns
// those that failed. Once it was out of reach for one, after all retries, no other
// is tried.
func fetchFrom(ctx context.Context, hc *fetch.Client, st *store.Store, bases []string, packages []Locked, progress func(int64)) []failed {
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
			for _, base := range bases {
				err := hc.ToStore(ctx, st, fetch.Request{
					URLs: []string{base + "/" + p.Filename}, Size: p.Size, SHA256: p.SHA256, Progress: progress})
				if err == nil {
					errs[i] = nil
					break
				}
				if errs[i] == nil {
					errs[i] = err
				}
				if f := (*fetch.Error)(nil); errors.As(err, &f) && f.Unreachable() {
					down.Store(f)
					break // the bases are of one server
				}
			}
			return nil
		})
	}
	_ = g.Wait() // its functions give none
	var all []failed
	for i, err := range errs {
		if err != nil {
			all = append(all, failed{Locked: packages[i], err: err})
		}
	}
	return all
}
