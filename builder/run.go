package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/builder/toolchain"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/image"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/cache"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/steps"
	"github.com/kimg/kimg/internal/store"
	"github.com/kimg/kimg/internal/suite"
)

// run binds plans to this machine, and to what the user said of how to build here; nothing of it is in the artifacts.
type run struct {
	*tools
	jobs       int
	privileged bool
	kernel     string // where the user's own kernel source is, as a Request's
}

func (r *run) work(p *Plan) map[string]steps.Work {
	l := p.Lock
	work := map[string]steps.Work{
		kernelStep: {Run: func(ctx context.Context, _ steps.Results, out *steps.Outputs, task *progress.Task) error {
			return r.compile(ctx, l, out, task)
		}},
		packagesStep: r.fetching(l.Rootfs.Packages(), func(ctx context.Context, task *progress.Task) error {
			return r.fetchRootfs(ctx, l.Rootfs, task)
		}),
		rootfsStep: {Run: func(ctx context.Context, _ steps.Results, out *steps.Outputs, task *progress.Task) error {
			return r.bootstrap(ctx, l, out, task)
		}},
		customStep: {Run: func(ctx context.Context, in steps.Results, out *steps.Outputs, task *progress.Task) error {
			return r.customise(ctx, l, in, out, task)
		}},
		imageStep: {Run: func(ctx context.Context, in steps.Results, out *steps.Outputs, task *progress.Task) error {
			return r.makeImage(ctx, l, in, out, task)
		}},
	}
	if l.Kernel.Package != nil {
		list := []archive.Locked{*l.Kernel.Package}
		work[sourceStep] = r.fetching(list, func(ctx context.Context, task *progress.Task) error {
			return r.fetch(ctx, *l.Kernel.Archive, list, bytesOf(task))
		})
	}
	for _, t := range []spec.ToolchainLock{l.Toolchain, l.Imaging} {
		work[toolchainID(t)] = r.toolchainWork(t)
	}
	return work
}

func (r *run) fetching(list []archive.Locked, fetch func(context.Context, *progress.Task) error) steps.Work {
	return steps.Work{
		Ready: func(context.Context) (bool, error) { return r.haveAll(list), nil },
		Run: func(ctx context.Context, _ steps.Results, _ *steps.Outputs, task *progress.Task) error {
			return fetch(ctx, task)
		},
	}
}

func (t *tools) toolchainWork(l spec.ToolchainLock) steps.Work {
	return steps.Work{
		Ready: func(ctx context.Context) (bool, error) {
			eng, err := t.engine(ctx)
			if err != nil {
				return false, err
			}
			lock, err := on(eng, l)
			if err != nil {
				return false, err
			}
			cache.Stamp(t.env.Cache, lock.Ref(), "")
			_, ok, err := eng.ImageID(ctx, lock.Ref())
			return ok, err
		},
		Run: func(ctx context.Context, _ steps.Results, _ *steps.Outputs, task *progress.Task) error {
			eng, err := t.engine(ctx)
			if err != nil {
				return err
			}
			lock, err := on(eng, l)
			if err != nil {
				return err
			}
			ac, err := t.archive(lock.Suite, lock.Arch(), lock.Date)
			if err != nil {
				return err
			}
			_, err = toolchain.Maker{Engine: eng, Archive: ac, Locks: t.locks(), Task: task}.Ensure(ctx, lock)
			return err
		},
	}
}

// actions is the directory of what steps made.
func (t *tools) actions() string { return filepath.Join(t.env.Cache, "actions") }

func (t *tools) runner(work map[string]steps.Work) *steps.Runner {
	return &steps.Runner{
		Cache: &steps.Cache{Dir: t.actions(), Store: t.store},
		Sink:  t.env.Sink, Logs: t.env.Logs, Work: work,
	}
}

// ensureToolchain makes a toolchain's image; one whose packages are gone is resolved anew, where that may be.
func (t *tools) ensureToolchain(ctx context.Context, l *spec.ToolchainLock) error {
	get := func() error {
		step := toolchainStep(*l)
		_, err := t.runner(map[string]steps.Work{step.ID: t.toolchainWork(*l)}).Get(ctx, step)
		return err
	}
	err := get()
	if isMissing(err) && !t.from.Frozen {
		if err = t.renew(ctx, l); err == nil {
			err = get()
		}
	}
	return err
}

// PrivilegedError says that the engine has no container with more privileges than it runs the bootstrap with anyway.
type PrivilegedError struct{ Engine container.Info }

func (e *PrivilegedError) Error() string {
	return fmt.Sprintf("use --privileged: %s runs %s, and cannot give a container the rights of its machine's root",
		e.Engine.Name, e.Engine.Rights())
}

func (e *PrivilegedError) Hint() string {
	return "leave it out (privileged in kimg.yaml, too): the bootstrap does not need it on such an engine"
}

// engineFirst connects before anything is asked or downloaded, where it is known that an engine is needed: nothing was
// ever made here that could be had again without one. A privileged bootstrap is refused where it is no use.
func (r *run) engineFirst(ctx context.Context) error {
	made, err := os.ReadDir(r.actions())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(made) > 0 && !r.privileged {
		return nil
	}
	eng, err := r.engine(ctx)
	if err != nil {
		return err
	}
	if info := eng.Info(); r.privileged && (info.Rootless || info.Remapped) {
		return &PrivilegedError{Engine: info}
	}
	return nil
}

// engineFor connects where something of the plan has to be made: else a step that needs no engine would be the first
// to begin, and be told as failed.
func (r *run) engineFor(ctx context.Context, p *Plan) error {
	made := r.runner(nil).Cache
	for _, s := range []*steps.Step{p.Kernel, p.Image} {
		if _, ok := made.Load(s.ActionID()); !ok {
			_, err := r.engine(ctx)
			return err
		}
	}
	return nil
}

// maxAgain is how often a build is mended: once for each toolchain, and once for the store.
const maxAgain = 3

// all runs the plan and gives what it made to put. What can be mended without the user is mended and run again: a
// toolchain whose packages are gone is resolved anew (which makes another plan), and what lay damaged in the store,
// and is no longer there, is made or fetched once more.
func (r *run) all(ctx context.Context, p *Plan, lockFile string, put func(*Plan, steps.Results) error) error {
	if err := r.engineFor(ctx, p); err != nil {
		return err
	}
	for again := 0; ; again++ {
		res, err := r.runner(r.work(p)).Get(ctx, p.Kernel, p.Image)
		if err == nil {
			err = put(p, res)
		}
		var damaged *store.CorruptError
		switch {
		case again == maxAgain:
			return err
		case isMissing(err):
			if p, err = r.renewMissing(ctx, p, lockFile, err); err != nil {
				return err
			}
		case errors.As(err, &damaged):
			progress.Warn(r.env.Sink, damaged.Error())
		default:
			return err
		}
	}
}

// renewMissing resolves the toolchain anew that a failed step could not fetch. For other packages the user decides.
func (r *run) renewMissing(ctx context.Context, p *Plan, lockFile string, cause error) (*Plan, error) {
	for _, t := range []*spec.ToolchainLock{&p.Lock.Toolchain, &p.Lock.Imaging} {
		if !r.from.Frozen && failedStep(cause) == toolchainID(*t) {
			if err := r.renew(ctx, t); err != nil {
				return nil, err
			}
			(&resolver{q: p.Lock.Request()}).derive(p.Lock) // the build time is the toolchain's
			return NewPlan(p.Lock)
		}
	}
	return nil, r.allMissing(ctx, p, lockFile, cause)
}

func failedStep(err error) string {
	var se *steps.StepError
	if errors.As(err, &se) {
		return se.Step
	}
	return ""
}

func (r *run) compile(ctx context.Context, l *spec.Lock, out *steps.Outputs, task *progress.Task) error {
	eng, job, err := r.job(ctx, l)
	if err != nil {
		return err
	}
	return kernel.Build(ctx, eng, job, task, func(name string, mode fs.FileMode, _ int64, r io.Reader) error {
		return out.Add(name, mode, r)
	})
}

// job is the kernel to be compiled; its source and its toolchain are there.
func (r *run) job(ctx context.Context, l *spec.Lock) (container.Engine, kernel.Job, error) {
	eng, id, err := r.image(ctx, l.Toolchain)
	if err != nil {
		return nil, kernel.Job{}, err
	}
	lock, err := on(eng, l.Toolchain)
	if err != nil {
		return nil, kernel.Job{}, err
	}
	job, err := kernelJob(l)
	if err != nil {
		return nil, kernel.Job{}, err
	}
	job.Image, job.Host = lock.Ref(), lock.Arch()
	if job.Tree, err = r.tree(ctx, l.Kernel, r.kernel); err != nil {
		return nil, kernel.Job{}, err
	}
	job.ImageID, job.Jobs, job.Ask = id, r.jobs, r.env.Ask
	job.CacheDir, job.Ccache, job.Temporary = r.env.Cache, r.env.Ccache, r.env.Temporary
	if job.Temporary {
		r.removeLater(job)
	}
	return eng, job, nil
}

func kernelJob(l *spec.Lock) (kernel.Job, error) {
	config, err := l.KernelConfig()
	if err != nil {
		return kernel.Job{}, &spec.InputError{Field: "config", Err: err}
	}
	patches, err := l.Kernel.UserPatches()
	if err != nil {
		return kernel.Job{}, err
	}
	era, err := kernel.EraFor(l.Kernel.Version, l.Toolchain.Request)
	if err != nil {
		return kernel.Job{}, err
	}
	return kernel.Job{
		Arch:    l.Arch,
		Tree:    &kernel.Tree{Kind: kernel.Kind(l.Kernel.Source), Version: l.Kernel.Version, SHA256: l.Kernel.SHA256},
		Patches: slices.Concat(l.Kernel.KimgFixes(l.Toolchain.Request), patches),
		Era:     era, Config: config,
		Epoch: time.Unix(l.Kernel.Epoch, 0).UTC(), Targets: l.Kernel.Targets, Boot: l.Image.Form.Boot(),
	}, nil
}

// rootfsTar is the name of the root filesystem's tar among its step's outputs.
const rootfsTar = "rootfs.tar"

func (r *run) bootstrap(ctx context.Context, l *spec.Lock, out *steps.Outputs, task *progress.Task) error {
	eng, id, err := r.image(ctx, l.Imaging)
	if err != nil {
		return err
	}
	of, err := suite.Parse(l.Rootfs.Suite)
	if err != nil {
		return err
	}
	w, err := out.Create(rootfsTar, 0o644)
	if err != nil {
		return err
	}
	defer w.Abort()
	rootfs := image.RootfsSpec{
		Suite: of, Arch: l.Arch, Variant: l.Rootfs.Variant, Components: l.Rootfs.Components,
		Required: l.Rootfs.Required, Base: l.Rootfs.Base,
		Epoch: time.Unix(l.Rootfs.Epoch, 0).UTC(), Privileged: r.privileged,
	}
	maker := image.Maker{Engine: eng, Imaging: id, Log: task.Log(), Emulation: r.env.Emulation,
		Emulated: tellEmulated(l.Arch, task, out)}
	if err := maker.Bootstrap(ctx, rootfs, r.store, w); err != nil {
		return err
	}
	return w.Commit()
}

// tellEmulated tells what runs the programs of another architecture, and notes it beside what the step makes.
func tellEmulated(a spec.Arch, task *progress.Task, out *steps.Outputs) func(by string) {
	return func(by string) {
		task.Say(fmt.Sprintf("programs of %s are run by %s", a, by))
		out.Note(by)
	}
}

// treeOf is the tar of a tree that a step made.
func (r *run) treeOf(in steps.Results, step string) (image.Tree, error) {
	tar, ok := in[step].Find(rootfsTar)
	if !ok {
		return nil, fmt.Errorf("read the tree of the step %s: it is missing", step)
	}
	return func() (io.ReadCloser, error) { return r.store.Open(tar.Digest) }, nil
}

func (r *run) makeImage(
	ctx context.Context, l *spec.Lock, in steps.Results, out *steps.Outputs, task *progress.Task,
) (err error) {
	of, err := suite.Parse(l.Rootfs.Suite)
	if err != nil {
		return err
	}
	from := rootfsStep
	if l.Custom.Any() {
		from = customStep
	}
	tree, err := r.treeOf(in, from)
	if err != nil {
		return err
	}
	eng, id, err := r.image(ctx, l.Imaging)
	if err != nil {
		return err
	}
	dir, remove, err := r.store.TempDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	name := l.Image.Form.File()
	file := filepath.Join(dir, name)
	disk := image.DiskSpec{
		Form: l.Image.Form, Size: l.Image.Size.Bytes(), UUID: l.Image.UUID, HashSeed: l.Image.HashSeed,
		Epoch: time.Unix(l.Rootfs.Epoch, 0).UTC(), Features: image.Features(of, l.Kernel.Version), Arch: l.Arch,
	}
	if modules, ok := in[kernelStep].Find(artifact.Modules); ok {
		open := func() (io.ReadCloser, error) { return r.store.Open(modules.Digest) }
		tree = image.WithModules(tree, open, disk.Epoch)
	}
	maker := image.Maker{Engine: eng, Imaging: id, Log: task.Log(), Warn: task.Warn}
	if err := maker.MakeDisk(ctx, disk, tree, file); err != nil {
		return err
	}
	return out.Take(name, 0o644, file)
}
