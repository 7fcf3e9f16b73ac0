package container

import (
	"context"
	"path/filepath"
	"syscall"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/volume"

	"github.com/kimg/kimg/internal/sandbox"
)

// ContainersOf lists all containers, running or not, of an image and of images
// that were built on it.
func ContainersOf(ctx context.Context, e Engine, ref string) ([]string, error) {
	if e, ok := e.(*embedded); ok { // whatever the image: a test has a store of its own
		made, _ := filepath.Glob(filepath.Join(e.dir, containers, ".*"))
		builds, _ := filepath.Glob(filepath.Join(e.dir, images, ".*", rootDir))
		return append(made, builds...), nil
	}
	list, err := e.(*docker).api.ContainerList(ctx, container.ListOptions{All: true,
		Filters: filters.NewArgs(filters.Arg("ancestor", ref))})
	var ids []string
	for _, c := range list {
		ids = append(ids, c.ID[:12]+" "+c.Command+" "+c.State)
	}
	return ids, err
}

// EmbeddedOne is Embedded where there are no other users than this one.
func EmbeddedOne(ctx context.Context, dir string) (Engine, error) {
	e, err := openEmbedded(ctx, dir, sandbox.OneID(0, 0))
	if err != nil {
		return nil, err
	}
	return e, nil
}

// HasOwners reports whether files of an engine's containers keep their owners.
func HasOwners(e Engine) bool {
	own, ok := e.(*embedded)
	return !ok || !own.ids.One()
}

// SmallVolume makes a volume that holds a mebibyte.
func SmallVolume(ctx context.Context, e Engine, name string) error {
	_, err := e.(*docker).api.VolumeCreate(ctx, volume.CreateOptions{Name: name,
		DriverOpts: map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}})
	return err
}

// Kill ends a container's command from outside.
func Kill(ctx context.Context, c Container) error {
	if c, ok := c.(*embeddedContainer); ok {
		return c.job.process.Signal(syscall.SIGKILL)
	}
	d := c.(*dockerContainer)
	return d.eng.api.ContainerKill(ctx, d.id, "SIGKILL")
}
