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
	"time"

	"github.com/google/renameio/v2"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/toolbox"
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
	var list []RunningGuest
	for _, dir := range toolbox.RunDirs() {
		if g, ok := readGuest(dir); ok {
			list = append(list, g)
		}
	}
	slices.SortFunc(list, func(a, b RunningGuest) int { return b.Since.Compare(a.Since) })
	return list
}

// readGuest reads about the guest of a run directory, unless it has ended.
func readGuest(dir string) (RunningGuest, bool) {
	g := RunningGuest{Name: toolbox.GuestName(dir), dir: dir}
	if !toolbox.Runs(dir) {
		return g, false
	}
	b, err := reading.Small(filepath.Join(dir, guestFile), 64<<10)
	return g, err == nil && json.Unmarshal(b, &g) == nil
}

// awaitKeys waits until the guest has the keys for its sshd. If the guest ends, the error is errGone.
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

// whileRuns is a context that ends with ctx and with the guest: then errGone is its cause.
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

// newEntry is what others read about a guest with the artifacts in dir.
func newEntry(tools *toolbox.Tools, dir string) *RunningGuest {
	return &RunningGuest{
		Name: toolbox.GuestName(tools.RunDir), Out: dir, PID: os.Getpid(),
		Since: time.Now().UTC().Truncate(time.Second), dir: tools.RunDir,
	}
}

// write publishes the entry as it is now, until the run directory is removed.
func (g *RunningGuest) write() error {
	b, err := json.Marshal(g)
	if err == nil {
		err = renameio.WriteFile(filepath.Join(g.dir, guestFile), b, 0o600)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the guest has ended
	}
	if err != nil {
		return fmt.Errorf("announce the guest: %w", err)
	}
	return nil
}
