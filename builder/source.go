package builder

import (
	"context"
	"os"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/builder/outdir"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/cache"
)

// KernelSource says how a container of eng sees the source of the build in dir,
// where debug information says that it is. It is empty where the source is no
// longer kept: a build with --export-source has it written beside the artifacts.
func KernelSource(ctx context.Context, env Env, eng container.Engine, dir string) ([]container.Mount, error) {
	env, err := env.whole()
	if err != nil {
		return nil, err
	}
	lock, err := lockIn(dir)
	if err != nil || lock == nil {
		return nil, err
	}
	m, err := outdir.Read(dir)
	if err != nil {
		return nil, nil // artifacts without one are no build of ours
	}
	j, err := kernelJob(lock)
	if err != nil {
		return nil, nil
	}
	j.Tree.Path, j.CacheDir = m.Run.Source, env.Cache
	if id, ok, err := eng.ImageID(ctx, lock.Toolchain.Image); err == nil && ok {
		j.ImageID = id
	}
	var mounts []container.Mount
	volumes := map[string]string{kernel.DebugSource: j.SourceVolume(), kernel.DebugGenerated: j.ObjectVolume()}
	for target, volume := range volumes {
		there, err := eng.VolumeExists(ctx, volume)
		if err != nil {
			return nil, err
		}
		if there {
			cache.Use(cache.StampFile(env.Cache, volume))
			mounts = append(mounts, container.Mount{Volume: volume, Target: target, ReadOnly: true})
		}
	}
	if len(mounts) == 0 && m.Run.Source != "" && eng.Info().Local {
		if info, err := os.Stat(m.Run.Source); err == nil && info.IsDir() {
			mounts = []container.Mount{{Bind: m.Run.Source, Target: kernel.DebugSource, ReadOnly: true}}
		}
	}
	return mounts, nil
}
