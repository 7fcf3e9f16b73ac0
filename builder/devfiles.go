package builder

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/builder/outdir"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/cache"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/steps"
)

// What the out directory holds for the tools of this machine, beside the artifacts. Paths of this machine are in
// them, so they are no artifacts: they are not in the manifest, and two machines' are not alike.
const (
	SourceDir       = "source"    // the kernel's tree as compiled
	GeneratedDir    = "generated" // headers and sources that the build made
	CommandsFile    = "compile_commands.json"
	GDBFile         = "kimg.gdb"
	exportStateFile = ".kimg-export" // in GeneratedDir: what was exported
)

type sourceExport struct {
	Kernel steps.ActionID `json:"kernel"`
	Source string         `json:"source"`
}

// devFiles writes what clangd and gdb want of this build. Without --export-source that is kimg.gdb alone, and only
// for a directory of the user's own: it needs no more than its path.
func (r *run) devFiles(ctx context.Context, p *Plan, out *outdir.Dir, export bool) (err error) {
	is := sourceExport{Kernel: p.Kernel.ActionID(), Source: out.Path(SourceDir)}
	k := p.Lock.Kernel
	directory, patched := k.Source == string(kernel.Directory), len(k.Patches)+len(k.Fixes) > 0
	own := directory && !patched // a patched tree is nowhere but in its volume
	if own {
		is.Source = r.local.Path
	}
	was, err := readExported(out)
	if err != nil {
		return err
	}
	generated := out.Path(GeneratedDir)
	if !export {
		switch {
		case was != nil && *was != is:
			progress.Say(r.env.Sink, "the exported source and "+CommandsFile+" are those of an earlier build: "+
				"--export-source renews them")
		case was == nil && directory && !isOurs(out):
			progress.Warn(r.env.Sink, out.Path(GDBFile)+" is there and kimg did not make it: it stays")
		case was == nil && own:
			return out.Write(GDBFile, kernel.GDBScript(is.Source, ""))
		case was == nil && directory:
			// That of a build without the patches names lines of another source.
			if err := os.Remove(out.Path(GDBFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove %s: %w", GDBFile, err)
			}
		}
		return nil
	}
	if was != nil && *was == is {
		return nil
	}
	if was == nil {
		for _, name := range []string{SourceDir, GeneratedDir, CommandsFile} {
			if _, err := os.Lstat(out.Path(name)); err == nil {
				return &outdir.ForeignError{File: out.Path(name)}
			}
		}
		defer func() { // what an export that failed has made would be in the way of the next
			if err != nil {
				for _, name := range []string{SourceDir, GeneratedDir, CommandsFile} {
					err = errors.Join(err, os.RemoveAll(out.Path(name)))
				}
			}
		}()
	}
	if !isOurs(out) {
		return &outdir.ForeignError{File: out.Path(GDBFile)}
	}
	eng, job, err := r.job(ctx, p.Lock)
	if err != nil {
		return err
	}
	task := progress.Start(r.env.Sink, "export-source", "export the source for tools", progress.Why(is.Source))
	to := kernel.SourceExport{Source: is.Source, Have: own, Generated: generated}
	commands, err := kernel.ExportSource(ctx, eng, job, to, task)
	task.End(false, err)
	if err != nil {
		return err
	}
	if err := out.Write(CommandsFile, commands); err != nil {
		return err
	}
	if err := out.Write(GDBFile, kernel.GDBScript(is.Source, generated)); err != nil {
		return err
	}
	state, err := json.Marshal(is)
	if err != nil {
		return err
	}
	return out.Write(filepath.Join(GeneratedDir, exportStateFile), state)
}

// isOurs reports whether the directory's kimg.gdb, if there is one, was written by kimg.
func isOurs(out *outdir.Dir) bool {
	b, err := reading.Small(out.Path(GDBFile), maxExportState)
	return errors.Is(err, fs.ErrNotExist) || err == nil && bytes.HasPrefix(b, []byte(kernel.GDBHeader))
}

// maxExportState bounds exportStateFile, in bytes.
const maxExportState = 1 << 16

// readExported reads what the last export was made of; nil: there was none.
func readExported(out *outdir.Dir) (*sourceExport, error) {
	b, err := reading.Small(filepath.Join(out.Path(GeneratedDir), exportStateFile), maxExportState)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the last export: %w", err)
	}
	var e sourceExport
	if json.Unmarshal(b, &e) != nil {
		return &sourceExport{}, nil
	}
	return &e, nil
}

// KernelSource says how a container of eng sees the source of the build in dir where debug information says that it
// is: no mounts where it is no longer kept. A build with --export-source writes it beside the artifacts.
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
	if l, err := on(eng, lock.Toolchain); err == nil {
		if id, ok, err := eng.ImageID(ctx, l.Ref()); err == nil && ok {
			j.ImageID = id
		}
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
