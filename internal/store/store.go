// Package store keeps what was downloaded or made, by its sha256. What is read from it is checked while it is read:
// an entry that no longer has its digest is removed and counts as missing. Entries appear whole or not at all, so
// many processes may share one store.
package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/kimg/kimg/internal/cache"
	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/units"
)

// Store is a directory of entries:
//
//	<dir>/sha256/ab/ab12...   entries, read-only files
//	<dir>/partial/ab12...     downloads that have not ended, see Partial
//	<dir>/tmp/                what Writers have not committed yet
type Store struct{ dir string }

// abandonedPartial is how long a partial download waits for a user who tries again.
const abandonedPartial = 14 * 24 * time.Hour

// Open returns the store in dir, which is made where it is missing.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir}
	for _, d := range []string{"sha256", "partial", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
	}
	filelock.Sweep(filepath.Join(dir, "tmp"), 0)
	filelock.Sweep(filepath.Join(dir, "partial"), abandonedPartial)
	return s, nil
}

// Path is where the entry is or would be. It says nothing about the entry's state: call Verify first.
func (s *Store) Path(d units.Digest) string {
	return filepath.Join(s.dir, "sha256", string(d[:2]), string(d))
}

// Has reports whether there is an entry, without reading it. Whoever asks is about to use it.
func (s *Store) Has(d units.Digest) bool {
	if d == "" {
		return false
	}
	info, err := os.Lstat(s.Path(d))
	return err == nil && info.Mode().IsRegular() && cache.Use(s.Path(d))
}

// Open returns a reader of the entry. The reader checks the digest as it goes: where it does not match, the last
// Read gives a *CorruptError in place of io.EOF and the entry is gone. A missing entry is fs.ErrNotExist.
func (s *Store) Open(d units.Digest) (io.ReadCloser, error) {
	if d == "" {
		return nil, fmt.Errorf("open store entry: no digest: %w", fs.ErrNotExist)
	}
	cache.Use(s.Path(d))
	f, err := os.Open(s.Path(d))
	if err != nil {
		return nil, fmt.Errorf("open store entry %s: %w", d.Short(), err)
	}
	return &reader{s: s, f: f, want: d, sum: sha256.New()}, nil
}

// Verify reads the whole entry and gives the errors of Open and of its reader.
func (s *Store) Verify(d units.Digest) error {
	r, err := s.Open(d)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

// CorruptError tells that an entry did not have its digest. It counts as
// missing (errors.Is fs.ErrNotExist): the entry has been removed.
type CorruptError struct{ Want, Got units.Digest }

func (e *CorruptError) Error() string {
	return fmt.Sprintf("store entry %s was damaged (its content is %s) and has been removed: "+
		"run the command again to fetch or make it anew", e.Want.Short(), e.Got.Short())
}

// Is makes a damaged entry count as a missing one.
func (e *CorruptError) Is(target error) bool { return target == fs.ErrNotExist }

type reader struct {
	s    *Store
	f    *os.File
	want units.Digest
	sum  hash.Hash
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.f.Read(p)
	r.sum.Write(p[:n])
	if errors.Is(err, io.EOF) {
		if got := units.DigestSum(r.sum); got != r.want {
			_ = os.Remove(r.f.Name())
			return n, &CorruptError{Want: r.want, Got: got}
		}
	}
	return n, err
}

func (r *reader) Close() error { return r.f.Close() }
