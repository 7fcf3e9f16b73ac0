package store

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/units"
)

// TempDir makes a directory on the store's file system, for a program that writes a file of its own which Take then
// brings in. It stays until remove is called; one whose process was killed goes when a store is next opened.
func (s *Store) TempDir() (dir string, remove func() error, err error) {
	dir, remove, err = filelock.NewDir(filepath.Join(s.dir, "tmp"), "dir-*")
	if err != nil {
		return "", nil, fmt.Errorf("create store entry: %w", err)
	}
	return dir, remove, nil
}

// Take makes the file an entry, holes and all, without copying it: the file is
// gone from where it was. It must be on the store's file system.
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
