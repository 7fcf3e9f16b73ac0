package container

import (
	"context"
	"io"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
)

func (e *docker) ImageID(ctx context.Context, ref string) (id string, ok bool, err error) {
	img, err := e.api.ImageInspect(ctx, ref)
	if errdefs.IsNotFound(err) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fault(ctx, "look for image "+ref, err)
	}
	return img.ID, true, nil
}

func (e *docker) RemoveImage(ctx context.Context, ref string) error {
	work, cancel := patient(ctx)
	defer cancel()
	_, err := e.api.ImageRemove(work, ref, image.RemoveOptions{PruneChildren: true})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return fault(work, "remove image "+ref, err)
}

func (e *docker) Import(ctx context.Context, ref string, tar io.Reader) error {
	doing := "import image " + ref
	body := acquire(tar)
	defer body.release()
	answer, err := e.api.ImageImport(ctx, image.ImportSource{Source: body, SourceName: "-"}, ref,
		image.ImportOptions{Changes: []string{"LABEL " + labelKimg + "=1"}})
	if err == nil {
		defer answer.Close()
		err = readMessages(answer, io.Discard)
	}
	if bad := body.fault(); bad != nil && ctx.Err() == nil {
		err = bad // the engine only saw its end
	}
	return fault(ctx, doing, err)
}
