package container

import (
	"context"
	"io"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types"
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

func (e *docker) Kept(ctx context.Context) ([]Kept, error) {
	usage, err := e.api.DiskUsage(ctx,
		types.DiskUsageOptions{Types: []types.DiskUsageObject{types.VolumeObject, types.ImageObject}})
	if err != nil {
		return nil, fault(ctx, "ask for the volumes and images that are kept", err)
	}
	var list []Kept
	for _, v := range usage.Volumes {
		if v.Labels[labelKimg] == "" || v.Labels[labelDurable] == "" {
			continue
		}
		k := Kept{Name: v.Name, Size: -1}
		k.Created, _ = time.Parse(time.RFC3339, v.CreatedAt) // the zero time: not known
		if v.UsageData != nil {
			k.Size, k.InUse = v.UsageData.Size, v.UsageData.RefCount > 0
		}
		list = append(list, k)
	}
	for _, i := range usage.Images {
		if i.Labels[labelKimg] == "" {
			continue
		}
		shared := max(0, i.SharedSize) // -1: the engine does not say
		refs := i.RepoTags
		if len(refs) == 0 { // left by a build that failed
			refs = []string{i.ID}
		}
		for _, ref := range refs {
			list = append(list, Kept{Image: true, Name: ref, Size: i.Size - shared, Shared: shared,
				Created: time.Unix(i.Created, 0), InUse: i.Containers > 0})
		}
	}
	return list, nil
}
