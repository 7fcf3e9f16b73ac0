package store

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"os"
	"path/filepath"

	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/units"
)

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

// CommitAs is Commit for content whose digest was known before: content with
// another digest is thrown away and an error.
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
	if err := f.Chmod(0o444); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return f.Close()
}
