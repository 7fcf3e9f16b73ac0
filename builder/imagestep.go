package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/image"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/steps"
)

// ImageFile is the disk image's name among the artifacts.
const ImageFile = "rootfs.img"

// makeImage makes the disk image from the root filesystem's tar and, where the
// kernel has them, its modules.
func (s *session) makeImage(ctx context.Context, l *Lock, suite archive.Suite, features []string, in steps.Results, out *steps.Outputs, task *progress.Task) (err error) {
	tar, ok := in["rootfs"].Find(rootfsTar)
	if !ok {
		return fmt.Errorf("make the image of %s: its tree is missing", suite)
	}
	eng, id, err := s.image(ctx, l.Imaging)
	if err != nil {
		return err
	}
	dir, remove, err := s.store.TempDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	file := filepath.Join(dir, ImageFile)
	spec := image.DiskSpec{
		Size: l.Image.Size, UUID: l.Image.UUID, HashSeed: l.Image.HashSeed,
		Epoch: time.Unix(l.Rootfs.Epoch, 0).UTC(), Features: features,
	}
	tree := func() (io.ReadCloser, error) { return s.store.Open(tar.Digest) }
	if modules, ok := in["kernel"].Find(kernel.ModulesTar); ok {
		tree = image.WithModules(tree, func() (io.ReadCloser, error) { return s.store.Open(modules.Digest) }, spec.Epoch)
	}
	if err := image.MakeDisk(ctx, eng, id, spec, tree, file, task); err != nil {
		return err
	}
	return out.Take(ImageFile, 0o644, file)
}
