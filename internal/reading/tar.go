package reading

import (
	"archive/tar"
	"context"
	"io"
	"path"
)

// Tar reads a tar to its end, until ctx ends or do has an error. do gets each entry but that of the whole tree, with
// its name cleaned, and its content, of which it need not read all.
func Tar(ctx context.Context, r io.Reader, do func(name string, h *tar.Header, content io.Reader) error) error {
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			_, err := io.Copy(io.Discard, r)
			return err
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if name := path.Clean(h.Name); name != "." {
			if err := do(name, h, tr); err != nil {
				return err
			}
		}
	}
}
