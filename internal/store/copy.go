package store

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/google/renameio/v2"

	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/sparse"
	"github.com/kimg/kimg/internal/units"
)

// CopyTo writes the entry to the file dst, which appears whole or stays as it
// was. Blocks of zeroes become holes. mode is subject to the umask.
func (s *Store) CopyTo(ctx context.Context, d units.Digest, dst string, mode fs.FileMode) error {
	r, err := s.Open(d)
	if err != nil {
		return fmt.Errorf("copy to %s: %w", dst, err)
	}
	defer r.Close()
	t, err := renameio.NewPendingFile(dst, renameio.WithPermissions(mode))
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
