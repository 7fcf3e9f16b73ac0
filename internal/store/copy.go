package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/google/renameio/v2"

	"github.com/kimg/kimg/internal/units"
)

const (
	copyBuffer = 1 << 20
	holeUnit   = 4096 // what file systems can leave out; a zero block of this size becomes a hole
)

var zeroBlock [holeUnit]byte

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
	if err := copySparse(ctx, t.File, r); err != nil {
		return fmt.Errorf("copy to %s: %w", dst, err)
	}
	if err := t.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("copy to %s: %w", dst, err)
	}
	return nil
}

// copySparse copies r to the empty file f, leaving holes.
func copySparse(ctx context.Context, f *os.File, r io.Reader) error {
	buf := make([]byte, copyBuffer)
	var at int64
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, err := io.ReadFull(r, buf)
		if werr := writeDense(f, buf[:n], at); werr != nil {
			return werr
		}
		at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return f.Truncate(at) // a hole at the end has no block to make the file that long
		}
		if err != nil {
			return err
		}
	}
}

// writeDense writes the stretches of b that are not zero blocks. at, where b
// belongs in the file, is a multiple of holeUnit.
func writeDense(f *os.File, b []byte, at int64) error {
	isHole := func(i int) bool {
		block := b[i:min(i+holeUnit, len(b))]
		return bytes.Equal(block, zeroBlock[:len(block)])
	}
	for i := 0; i < len(b); {
		j := i
		for j < len(b) && !isHole(j) {
			j += holeUnit
		}
		if j > i {
			if _, err := f.WriteAt(b[i:min(j, len(b))], at+int64(i)); err != nil {
				return err
			}
		}
		i = j + holeUnit
	}
	return nil
}
