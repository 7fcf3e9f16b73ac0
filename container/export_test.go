package container

import (
	"context"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
)

// ContainersOf lists all containers, running or not, of an image and of images
// that were built on it.
func ContainersOf(ctx context.Context, e *Engine, ref string) ([]string, error) {
	list, err := e.api.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("ancestor", ref))})
	var ids []string
	for _, c := range list {
		ids = append(ids, c.ID[:12]+" "+c.Command+" "+c.State)
	}
	return ids, err
}
