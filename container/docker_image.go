package container

import (
	"context"
	"io"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
)

// ImageID returns the id of the image that ref names; ok is false when there is none.
func (e *Engine) ImageID(ctx context.Context, ref string) (id string, ok bool, err error) {
	img, err := e.api.ImageInspect(ctx, ref)
	if errdefs.IsNotFound(err) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fault(ctx, "look for image "+ref, err)
	}
	return img.ID, true, nil
}

// RemoveImage removes a tag, and the image when that was its last; that there is
// none is no error.
func (e *Engine) RemoveImage(ctx context.Context, ref string) error {
	_, err := e.api.ImageRemove(ctx, ref, image.RemoveOptions{PruneChildren: true})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return fault(ctx, "remove image "+ref, err)
}

// Import makes an image of one layer from a tar of a root filesystem. changes
// are Dockerfile instructions (CMD, ENV, LABEL, USER, WORKDIR ...).
func (e *Engine) Import(ctx context.Context, ref string, tar io.Reader, changes []string) error {
	doing := "import image " + ref
	body := lend(tar)
	defer body.takeBack()
	answer, err := e.api.ImageImport(ctx, image.ImportSource{Source: body, SourceName: "-"}, ref,
		image.ImportOptions{Changes: append([]string{"LABEL " + labelKimg + "=1"}, changes...)})
	if err == nil {
		defer answer.Close()
		err = readMessages(answer, io.Discard)
	}
	if bad := body.fault(); bad != nil && ctx.Err() == nil {
		err = bad // the engine only saw its end
	}
	return fault(ctx, doing, err)
}
