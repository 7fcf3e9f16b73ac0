package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"
)

// RunningGuest is a guest of this user that another kimg can reach.
type RunningGuest struct {
	Name    string    `json:"-"`
	Out     string    `json:"out"` // the directory of its artifacts, absolute
	PID     int       `json:"pid"` // kimg's
	Since   time.Time `json:"since"`
	Console bool      `json:"console,omitempty"` // its serial console can be attached to
	SSH     *Address  `json:"ssh,omitempty"`     // where its sshd is, or will be; nil: it has none
	Keyed   bool      `json:"keyed,omitempty"`   // its sshd has its keys, and is about to start

	dir string
}

// Address is one for package net.
type Address struct {
	Network string `json:"network"`
	Address string `json:"address"`
}

// guestFile is in the run directory of a guest that can be reached.
const guestFile = "guest.json"

// RunningGuests are those of this user, the youngest first.
func RunningGuests() []RunningGuest {
	dirs, _ := filepath.Glob(filepath.Join(runParent(), runPrefix+"*"))
	var list []RunningGuest
	for _, dir := range dirs {
		if g, ok := readGuest(dir); ok {
			list = append(list, g)
		}
	}
	slices.SortFunc(list, func(a, b RunningGuest) int { return b.Since.Compare(a.Since) })
	return list
}

// readGuest reads of the guest of a run directory, unless there is none any more.
func readGuest(dir string) (RunningGuest, bool) {
	g := RunningGuest{Name: strings.TrimPrefix(filepath.Base(dir), runPrefix), dir: dir}
	if info, err := os.Lstat(dir); err != nil || !info.IsDir() || !isMine(info) {
		return g, false
	}
	b, err := os.ReadFile(filepath.Join(dir, guestFile))
	if err != nil || json.Unmarshal(b, &g) != nil {
		return g, false
	}
	lock := flock.New(filepath.Join(dir, lockFile), flock.SetFlag(os.O_RDONLY))
	if free, err := lock.TryLock(); err != nil || free {
		_ = lock.Unlock() // its kimg was killed
		return g, false
	}
	return g, true
}

// awaitKeys waits until the guest has the keys for its sshd. Its end is errGone.
func (g RunningGuest) awaitKeys(ctx context.Context) error {
	for {
		now, ok := readGuest(g.dir)
		if !ok {
			return errGone
		}
		if now.Keyed {
			return nil
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// whileRuns is ctx, ended with the guest too: then errGone is its cause.
func (g RunningGuest) whileRuns(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		look := time.NewTicker(time.Second)
		defer look.Stop()
		for {
			select {
			case <-look.C:
				if _, ok := readGuest(g.dir); !ok {
					cancel(errGone)
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

// newGuest is what others are told of the guest at a site, with the artifacts in out.
func newGuest(site *Site, out string) (*RunningGuest, error) {
	abs, err := filepath.Abs(out)
	if err != nil {
		return nil, err
	}
	return &RunningGuest{
		Name: strings.TrimPrefix(filepath.Base(site.here), runPrefix), Out: abs,
		PID: os.Getpid(), Since: time.Now().UTC().Truncate(time.Second), dir: site.here,
	}, nil
}

// tell has others find the guest as it now is. It ends with the run directory.
func (g *RunningGuest) tell() error {
	b, err := json.Marshal(g)
	if err == nil {
		err = renameio.WriteFile(filepath.Join(g.dir, guestFile), b, 0o600)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the guest has ended
	}
	if err != nil {
		return fmt.Errorf("tell of the guest: %w", err)
	}
	return nil
}
