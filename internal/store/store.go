// Package store keeps what was downloaded or made, by its sha256. What is read from it is checked while it is read:
// an entry that no longer has its digest is removed and counts as missing. Entries appear whole or not at all, so
// many processes may share one store.
package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"github.com/kimg/kimg/internal/cache"
	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/sparse"
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

// CorruptError tells that an entry did not have its digest and was removed: errors.Is fs.ErrNotExist.
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

// Writer takes the content of a new entry. Nothing can be read before Commit.
type Writer struct {
	s    *Store
	f    *os.File // nil once committed or aborted
	sum  hash.Hash
	size int64
}

// Create begins an entry whose digest is not known yet.
func (s *Store) Create() (*Writer, error) {
	f, err := filelock.NewFile(filepath.Join(s.dir, "tmp"), "new-*")
	if err != nil {
		return nil, fmt.Errorf("create store entry: %w", err)
	}
	return &Writer{s: s, f: f, sum: sha256.New()}, nil
}

// Write implements io.Writer.
func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	w.sum.Write(p[:n])
	w.size += int64(n)
	return n, err
}

// Commit puts the entry in its place and returns its digest and size in bytes.
func (w *Writer) Commit() (units.Digest, int64, error) {
	d := units.DigestSum(w.sum)
	return d, w.size, w.commit(d)
}

// CommitAs is Commit for a known digest: content with another is thrown away and an error.
func (w *Writer) CommitAs(want units.Digest) error {
	if got := units.DigestSum(w.sum); got != want {
		w.Abort()
		return fmt.Errorf("commit store entry: content is %s, not %s", got, want)
	}
	return w.commit(want)
}

func (w *Writer) commit(d units.Digest) error {
	defer w.Abort()
	if err := w.s.adopt(w.f, d); err != nil {
		return fmt.Errorf("commit store entry %s: %w", d.Short(), err)
	}
	w.f = nil
	return nil
}

// Abort throws the content away. It does nothing after Commit.
func (w *Writer) Abort() {
	if w.f == nil {
		return
	}
	_ = w.f.Close()
	_ = os.Remove(w.f.Name())
	w.f = nil
}

// adopt makes f, an open file of this store's file system whose digest is d, the entry d and closes it. An entry
// that is there already is replaced: it has the same content, or it is damaged.
func (s *Store) adopt(f *os.File, d units.Digest) error {
	path := s.Path(d)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	// Not before: after a kill in between, its user could not open it again under its old name.
	if err := f.Chmod(0o444); err != nil {
		return err
	}
	return f.Close()
}

// TempDir makes a directory on the store's file system, for a program that writes a file of its own which Take then
// brings in. It stays until remove is called; one whose process was killed goes when a store is next opened.
func (s *Store) TempDir() (dir string, remove func() error, err error) {
	dir, remove, err = filelock.NewDir(filepath.Join(s.dir, "tmp"), "dir-*")
	if err != nil {
		return "", nil, fmt.Errorf("create store entry: %w", err)
	}
	return dir, remove, nil
}

// Take makes a file of the store's file system an entry, holes and all, without copying it.
func (s *Store) Take(file string) (units.Digest, int64, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", 0, fmt.Errorf("take into the store: %w", err)
	}
	defer f.Close()
	d, n, err := units.DigestReader(f)
	if err == nil {
		err = s.adopt(f, d)
	}
	if err != nil {
		return "", n, fmt.Errorf("take %s into the store: %w", file, err)
	}
	return d, n, nil
}

// CopyTo writes the entry to the file dst, whole or not at all, with holes. mode is subject to the umask.
func (s *Store) CopyTo(ctx context.Context, d units.Digest, dst string, mode fs.FileMode) error {
	r, err := s.Open(d)
	if err != nil {
		return fmt.Errorf("copy to %s: %w", dst, err)
	}
	defer r.Close()
	t, err := filelock.Replace(dst, renameio.WithPermissions(mode))
	if err != nil {
		return fmt.Errorf("copy to %s: %w", dst, err)
	}
	defer func() { _ = t.Cleanup() }() // nothing after CloseAtomicallyReplace
	if _, err := sparse.Copy(t.File, reading.Until(ctx, r)); err != nil {
		return fmt.Errorf("copy to %s: %w", dst, err)
	}
	if err := t.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("copy to %s: %w", dst, err)
	}
	return nil
}
