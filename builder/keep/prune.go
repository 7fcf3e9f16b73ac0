package keep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/kimg/kimg/internal/cache"
	"github.com/kimg/kimg/internal/filelock"
)

// Unused is how long a thing must not have been used for Trim to remove it, and by default for a prune.
const Unused = 30 * 24 * time.Hour

// Options say what Prune takes.
type Options struct {
	Older  time.Duration // what was not used for so long
	To     int64         // what was used longest ago, until no more than these bytes are kept; negative: all
	DryRun bool          // nothing is removed
	Shared bool          // images, too, that this cache never used: another one on the engine may
}

// Prune removes things, those that were used longest ago first, and returns them. The end of ctx stops it between two.
// What cannot be removed is in the error and keeps nothing else.
func (k *Kept) Prune(ctx context.Context, o Options) ([]Item, error) {
	var errs []error
	if !o.DryRun {
		filelock.Sweep(filepath.Join(k.Dir, "store", "tmp"), 0)
		if k.engine != nil { // the containers of what was killed
			errs = append(errs, k.engine.Sweep(ctx))
		}
	}
	var total int64
	var may []Item
	for _, i := range k.Items {
		if i.Kind == kindSnapshot || i.stamp == "" && !(o.Shared && i.Kind == kindImage) {
			continue // not this cache's to free
		}
		total += max(0, i.Size)
		if i.Stays == "" {
			may = append(may, i)
		}
	}
	slices.SortStableFunc(may, func(a, b Item) int { return a.Used.Compare(b.Used) })
	before := time.Now().Add(-o.Older)
	var taken []Item
	failed := map[string]bool{}
	for _, i := range may {
		if ctx.Err() != nil {
			return taken, errors.Join(append(errs, context.Cause(ctx))...)
		}
		if !i.Used.Before(before) || o.To >= 0 && total <= o.To {
			break
		}
		if failed[i.Kind] {
			continue
		}
		switch err := i.take(ctx, k.Dir, before, o.DryRun); {
		case err == nil:
			taken = append(taken, i)
			total -= max(0, i.Size)
		case errors.Is(err, cache.ErrUsed), errors.Is(err, fs.ErrNotExist):
		default:
			failed[i.Kind] = true // one error says it: a cache may be read-only
			errs = append(errs, fmt.Errorf("remove %s %s: %w", i.Kind, i.Name, err))
		}
	}
	return taken, errors.Join(errs...)
}

// take removes the item unless it was used meanwhile.
func (i *Item) take(ctx context.Context, dir string, before time.Time, dry bool) error {
	remove := func() error { return i.remove(ctx) }
	if dry {
		remove = func() error { return nil }
	}
	switch {
	case i.stamp == "":
		return remove()
	case i.lock == "" || dry:
		return cache.Remove(dir, i.stamp, before, remove)
	}
	// No kimg may start while cache.Remove is at work, which a volume takes too long for.
	var held *os.File
	err := cache.Remove(dir, i.stamp, before, func() (err error) {
		if held, err = filelock.Try(i.lock, os.O_RDWR|os.O_CREATE); errors.Is(err, filelock.ErrHeld) {
			return cache.ErrUsed
		}
		return nil // without a lock on a disk that is full
	})
	if err != nil {
		return err
	}
	defer held.Close()
	return remove()
}

// trimFile is the file in the cache directory whose mtime is that of the last Trim.
const trimFile = "trimmed"

// Trim removes what was not used for long, at most once a day. connect gives the engine, which need not answer.
func Trim(ctx context.Context, dir string, connect func(context.Context) (Engine, error)) ([]Item, error) {
	last := filepath.Join(dir, trimFile)
	if info, err := os.Lstat(last); err == nil && time.Since(info.ModTime()) < 24*time.Hour {
		return nil, nil
	}
	// First of all: another kimg need not begin as well, nor the next one after a failure.
	_ = os.Remove(last)
	if os.WriteFile(last, nil, 0o644) != nil {
		return nil, nil // a cache that is read-only, or a disk that is full: kimg cache prune says so
	}
	eng, noEngine := connect(ctx)
	k, err := List(ctx, dir, eng, noEngine)
	if err != nil {
		return nil, fmt.Errorf("trim the cache: %w", err)
	}
	taken, err := k.Prune(ctx, Options{Older: Unused, To: -1})
	if err != nil {
		err = fmt.Errorf("trim the cache: %w", err)
	}
	return taken, err
}

// Sum is what there is of one kind.
type Sum struct {
	Kind   string
	Number int
	Size   int64
	Stays  int64 // bytes of it that no prune takes
	Used   time.Time
}

// Sums adds up items by their kinds, the largest first.
func Sums(items []Item) []Sum {
	at := map[string]int{}
	var sums []Sum
	for _, i := range items {
		n, ok := at[i.Kind]
		if !ok {
			n = len(sums)
			at[i.Kind] = n
			sums = append(sums, Sum{Kind: i.Kind})
		}
		s := &sums[n]
		s.Number++
		s.Size += max(0, i.Size)
		if i.Stays != "" {
			s.Stays += max(0, i.Size)
		}
		if i.Used.After(s.Used) {
			s.Used = i.Used
		}
	}
	slices.SortStableFunc(sums, func(a, b Sum) int { return cmp.Compare(b.Size, a.Size) })
	return sums
}
