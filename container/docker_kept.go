package container

import (
	"context"
	"time"

	"github.com/docker/docker/api/types"
)

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
