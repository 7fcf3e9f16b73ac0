package export

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/kimg/kimg/internal/sparse"
)

// Raw is the disk image as it is, with holes for its zeros where w is an *os.File,
// which must be empty and not append.
type Raw struct{ Bootable bool }

// Export implements Format.
func (r Raw) Export(ctx context.Context, b *Build, w io.Writer) error {
	src, err := b.disk(ctx, r.Bootable)
	if err != nil {
		return err
	}
	defer src.Close()
	if f, ok := w.(*os.File); ok {
		_, err := sparse.Copy(f, src)
		return err
	}
	if _, err := io.Copy(w, src); err != nil {
		return fmt.Errorf("copy the disk image: %w", err)
	}
	return nil
}
