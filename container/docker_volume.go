package container

import (
	"context"
	"errors"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/volume"
)

func (e *docker) EnsureVolume(ctx context.Context, name string, durable bool) error {
	labels := map[string]string{labelKimg: "1", labelOwner: self().String()}
	if durable {
		labels = map[string]string{labelKimg: "1", labelDurable: "1"}
	}
	if err := ctx.Err(); err != nil {
		return fault(ctx, "create volume "+name, err)
	}
	// Not stopped half way: a request that was sent may be carried out all the same.
	work, cancel := detached(ctx)
	defer cancel()
	_, err := e.api.VolumeCreate(work, volume.CreateOptions{Name: name, Labels: labels})
	return fault(work, "create volume "+name, err)
}

func (e *docker) RemoveVolume(ctx context.Context, name string) error {
	work, cancel := patient(ctx)
	defer cancel()
	err := e.api.VolumeRemove(work, name, false)
	if errdefs.IsNotFound(err) {
		return nil
	}
	return fault(work, "remove volume "+name, err)
}

func (e *docker) VolumeExists(ctx context.Context, name string) (bool, error) {
	_, err := e.api.VolumeInspect(ctx, name)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil, fault(ctx, "look for volume "+name, err)
}

// Sweep asks the engine for two lists, and for nothing more when there is nothing to do.
func (e *docker) Sweep(ctx context.Context) error {
	ours := filters.NewArgs(filters.Arg("label", labelOwner))
	orphan := func(labels map[string]string) bool {
		o, ok := parseOwner(labels[labelOwner])
		return ok && labels[labelDurable] == "" && o.gone(self(), e.info.Local, alive)
	}

	list, err := e.api.ContainerList(ctx, container.ListOptions{All: true, Filters: ours})
	if err != nil {
		return fault(ctx, "list containers", err)
	}
	var errs []error
	for _, c := range list {
		if orphan(c.Labels) {
			errs = append(errs, e.removeContainer(ctx, c.ID))
		}
	}
	vols, err := e.api.VolumeList(ctx, volume.ListOptions{Filters: ours})
	if err != nil {
		return errors.Join(append(errs, fault(ctx, "list volumes", err))...)
	}
	for _, v := range vols.Volumes {
		if orphan(v.Labels) {
			errs = append(errs, e.RemoveVolume(ctx, v.Name))
		}
	}
	return errors.Join(errs...)
}
