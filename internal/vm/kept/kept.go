// Package kept has guests that have booted and are kept for later: files that package vm makes of a guest's RAM,
// devices and disk, in a directory of kimg's cache, by a key of all that they depend on. Begin with [Store].
//
// A kept guest is whole or not there: it grows in a directory that goes with its maker, and gets its name when all of
// it is on the disk. Whatever is wrong with one, it counts as not there; [Guest.Verify] reads all of it.
package kept

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/google/renameio/v2"
	"github.com/kimg/kimg/internal/cache"
	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/sparse"
	"github.com/kimg/kimg/internal/steps"
	"github.com/kimg/kimg/internal/units"
)

// The files of a kept guest.
const (
	RAM     = "ram"
	Devices = "devices"
	Disk    = "disk.qcow2"
	Console = "console" // what its serial console said
	about   = "guest.json"
)

// files are those that a guest goes on from.
var files = []string{RAM, Devices, Disk, Console}

// maxAbout bounds the description of a guest, and MaxConsole what is kept of its console's output, in bytes.
const (
	maxAbout   = 1 << 20
	MaxConsole = 256 << 10
)

// Store is the directory of the kept guests. Empty: none are kept.
type Store string

// About describes a kept guest.
type About struct {
	Version int                     `json:"version"`
	Reads   []steps.Fact            `json:"reads"` // what its key is of
	Made    time.Time               `json:"made"`
	QEMU    qemu.Version            `json:"qemu"`
	Files   map[string]units.Digest `json:"files"` // sparse.Hash of each
}

// format is the version of the files, and of what the guest's agent does before and after.
const format = 1

// Guest is a kept guest.
type Guest struct {
	About
	Dir string
}

// Key names a guest by all that it depends on.
func Key(reads []steps.Fact) string {
	s := steps.Step{ID: fmt.Sprintf("kept guest %d", format), Reads: reads}
	return string(s.ActionID())
}

// Find returns the guest of a key, and notes its use.
func (s Store) Find(key string) (*Guest, bool) {
	g := &Guest{Dir: filepath.Join(string(s), key)}
	b, err := reading.Small(filepath.Join(g.Dir, about), maxAbout)
	if err != nil || json.Unmarshal(b, &g.About) != nil || g.Version != format {
		return nil, false
	}
	for _, name := range files {
		info, err := os.Lstat(filepath.Join(g.Dir, name))
		if g.Files[name] == "" || err != nil || !info.Mode().IsRegular() {
			return nil, false
		}
	}
	return g, cache.Use(g.Dir)
}

// Verify reads all of the guest's files. The error says which of them is not what it was.
func (g *Guest) Verify(ctx context.Context) error {
	all, ctx := errgroup.WithContext(ctx)
	for _, name := range files {
		all.Go(func() error {
			d, err := digest(ctx, filepath.Join(g.Dir, name))
			if err == nil && d != g.Files[name] {
				err = errors.New("it is damaged")
			}
			if err != nil {
				return fmt.Errorf("go on with the guest in %s: %s: %w", g.Dir, name, err)
			}
			return nil
		})
	}
	return all.Wait()
}

func digest(ctx context.Context, file string) (units.Digest, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if err := sparse.Hash(ctx, h, f); err != nil {
		return "", err
	}
	return units.DigestSum(h), nil
}

// ConsoleText is what its serial console said before it was kept.
func (g *Guest) ConsoleText() []byte {
	b, _ := reading.Small(filepath.Join(g.Dir, Console), MaxConsole) // Verify tells what is wrong with it
	return b
}

// Drop removes the guest, which cannot be used.
func (g *Guest) Drop() error { return os.RemoveAll(g.Dir) }

// Pending is a guest that is being made.
type Pending struct {
	Dir string // where its files go

	store  Store
	key    string
	turn   io.Closer
	remove func() error
}

// tmp begins the name of a directory that a guest grows in.
const tmp = "tmp-"

// Maker is a process that makes a guest.
type Maker struct {
	PID   int       `json:"pid"`
	Began time.Time `json:"began"` // zero for Make: now
	// Aside says that nobody waits for what else the process does: it can be ended.
	Aside bool `json:"aside,omitempty"`
	// Boot is how long the guest has taken to boot before; 0: it is not known.
	Boot time.Duration `json:"boot,omitempty"`
}

// lockFile is locked by the maker of a key's guest, and says who that is.
func (s Store) lockFile(key string) string { return filepath.Join(s.growing(), key+".lock") }

// Maker returns who makes the guest of a key just now.
func (s Store) Maker(key string) (m Maker, ok bool) { return readMaker(s.lockFile(key)) }

func readMaker(file string) (m Maker, ok bool) {
	lock, err := filelock.Share(file, os.O_RDONLY)
	if err == nil {
		_ = lock.Close()
	}
	if !errors.Is(err, filelock.ErrHeld) {
		return m, false
	}
	b, err := reading.Small(file, maxAbout)
	return m, err == nil && json.Unmarshal(b, &m) == nil && m.PID > 0
}

// Makers are those of all the guests that are being made.
func (s Store) Makers() (list []Maker) {
	files, _ := filepath.Glob(filepath.Join(string(s), "growing", "*.lock")) // no letter of it is special
	for _, file := range files {
		if m, ok := readMaker(file); ok {
			list = append(list, m)
		}
	}
	return list
}

// Refuse notes why the guest of a key cannot be kept, so that nobody tries in vain again and again.
func (s Store) Refuse(key, why string) error {
	if err := os.MkdirAll(s.refused(), 0o700); err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(s.refused(), key), []byte(why+"\n"), 0o600)
}

// Refused says whether that was noted lately.
func (s Store) Refused(key string) bool {
	info, err := os.Lstat(filepath.Join(s.refused(), key))
	return err == nil && time.Since(info.ModTime()) < refusedFor
}

// refusedFor is how long: a full disk may be one no more.
const refusedFor = time.Hour

func (s Store) refused() string { return filepath.Join(string(s), "refused") }

// Make begins to make the guest of a key. The error is filelock.ErrHeld where another process does so.
func (s Store) Make(key string, by Maker) (_ *Pending, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("keep the booted guest: %w", err)
		}
	}()
	if err := os.MkdirAll(s.growing(), 0o700); err != nil {
		return nil, err
	}
	filelock.Sweep(s.growing(), 0) // what killed ones left
	turn, err := filelock.Try(s.lockFile(key), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	p := &Pending{store: s, key: key, turn: turn}
	if by.PID = os.Getpid(); by.Began.IsZero() {
		by.Began = time.Now()
	}
	if err := errors.Join(turn.Truncate(0), json.NewEncoder(turn).Encode(by)); err != nil {
		return nil, errors.Join(err, p.leave())
	}
	if p.Dir, p.remove, err = filelock.NewDir(s.growing(), tmp); err != nil {
		return nil, errors.Join(err, p.leave())
	}
	if err := os.WriteFile(filepath.Join(p.Dir, Disk), nil, 0o600); err != nil { // QEMU wants it there
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// growing is where guests are made: on the same file system, and out of the way of what lists the kept ones.
func (s Store) growing() string { return filepath.Join(string(s), "growing") }

// leave lets others make the guest.
func (p *Pending) leave() error {
	_ = os.Remove(p.store.lockFile(p.key)) // the next one makes another
	return p.turn.Close()
}

// Commit keeps the guest. It takes the time of writing its files to the disk.
func (p *Pending) Commit(ctx context.Context, a About, console []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("keep the booted guest: %w", err)
		}
	}()
	if err := os.WriteFile(filepath.Join(p.Dir, Console), console, 0o600); err != nil {
		return err
	}
	a.Version, a.Made, a.Files = format, time.Now().UTC().Truncate(time.Second), map[string]units.Digest{}
	for _, name := range files {
		file := filepath.Join(p.Dir, name)
		if err := flush(file); err != nil {
			return err
		}
		if a.Files[name], err = digest(ctx, file); err != nil {
			return err
		}
	}
	b, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(filepath.Join(p.Dir, about), append(b, '\n'), 0o600); err != nil {
		return err
	}
	to := filepath.Join(string(p.store), p.key)
	if _, whole := p.store.Find(p.key); !whole {
		if err := os.RemoveAll(to); err != nil { // it was damaged
			return err
		}
	}
	if err := os.Rename(p.Dir, to); err != nil && !errors.Is(err, fs.ErrExist) {
		return err // one that another process has kept meanwhile is as good
	}
	_ = os.Remove(filepath.Join(to, filelock.DirLock)) // it was the maker's
	return nil
}

// flush has a file on the disk, and only its owner read it.
func flush(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(cmp.Or(f.Chmod(0o600), f.Sync()), f.Close())
}

// Close ends the making, and removes what was not kept.
func (p *Pending) Close() error { return errors.Join(p.remove(), p.leave()) }
