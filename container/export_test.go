package container

import (
	"context"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/volume"
)

// ContainersOf lists all containers, running or not, of an image and of images
// that were built on it.
func ContainersOf(ctx context.Context, e Engine, ref string) ([]string, error) {
	list, err := e.(*docker).api.ContainerList(ctx, container.ListOptions{All: true,
		Filters: filters.NewArgs(filters.Arg("ancestor", ref))})
	var ids []string
	for _, c := range list {
		ids = append(ids, c.ID[:12]+" "+c.Command+" "+c.State)
	}
	return ids, err
}

// SmallVolume makes a volume that holds a mebibyte.
func SmallVolume(ctx context.Context, e Engine, name string) error {
	_, err := e.(*docker).api.VolumeCreate(ctx, volume.CreateOptions{Name: name,
		DriverOpts: map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}})
	return err
}

// Kill ends a container's command from outside.
func Kill(ctx context.Context, c Container) error {
	d := c.(*dockerContainer)
	return d.eng.api.ContainerKill(ctx, d.id, "SIGKILL")
}
