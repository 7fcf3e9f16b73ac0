package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/builder/toolchain"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/steps"
	"github.com/kimg/kimg/internal/units"
)

// artifactNames are the files at the top of the out directory that a build
// writes over; the kernel's gdb scripts lie in scripts/gdb. kimg.lock is not one
// of them: it has been read, and so was a lock.
var artifactNames = []string{"bzImage", "vmlinux", "System.map", "config", "vmlinux-gdb.py", kernel.ModulesTar, ImageFile, ManifestFile}

// localSource reads what --kernel says and pins a source of the person's own.
func (s *session) localSource(ctx context.Context) (kernel.Source, error) {
	src, err := kernel.ParseSource(s.spec.Kernel)
	if err != nil {
		return src, &SpecError{Field: "--kernel", Err: err}
	}
	if src.Kind == kernel.Directory || src.Kind == kernel.Tarball {
		if s.tree, err = kernel.Pin(ctx, src, s.Cache); err == nil && src.Kind == kernel.Directory {
			s.askGit(ctx)
		}
	}
	return src, err
}

// hasEra refuses a kernel that is too old, or that cannot be packed, before
// anything is downloaded for it, where its version is known by then.
func (s *session) hasEra(src kernel.Source) error {
	version := src.Version
	switch {
	case s.tree != nil:
		version = s.tree.Version
	case src.Kind != kernel.Release:
		return nil
	}
	era, err := kernel.EraFor(version, s.spec.Toolchain)
	if err == nil {
		_, err = era.Target(s.spec.Targets)
	}
	return err
}

// resolveKernel pins the kernel's source. A package keeps its pin while the
// request is the same.
func (s *session) resolveKernel(ctx context.Context, src kernel.Source, old KernelLock) (KernelLock, error) {
	l := KernelLock{Request: src.String(), Source: string(src.Kind)}
	if src.Kind == kernel.Suite {
		l.Suite = s.spec.Suite
		if old.Request == l.Request && old.Suite == l.Suite && old.Package != nil && old.Archive != nil {
			return old, nil
		}
		if s.spec.Frozen {
			return l, &FrozenError{"the kernel of " + l.Suite}
		}
		return s.resolvePackage(ctx, src, l)
	}
	if src.Kind == kernel.Release || src.Kind == kernel.URL {
		return s.resolveDownload(ctx, src, l, old)
	}
	l.Version, l.SHA256, l.Request = s.tree.Version, s.tree.SHA256, s.spec.Kernel
	if s.spec.Frozen && l.SHA256 != old.SHA256 {
		return l, &FrozenError{fmt.Sprintf("the kernel source %s as it is now", s.tree.Path)}
	}
	return l, nil
}

func (s *session) resolvePackage(ctx context.Context, src kernel.Source, l KernelLock) (KernelLock, error) {
	suite, err := archive.ParseSuite(l.Suite)
	if err != nil {
		return l, err
	}
	rel, index, err := s.index(ctx, suite)
	if err != nil {
		return l, err
	}
	p, err := kernel.FindPackage(index, src)
	if err != nil {
		return l, err
	}
	pin, from := p.Locked(), archiveLock(rel)
	l.Package, l.Archive, l.SHA256 = &pin, &from, pin.SHA256
	l.Version, err = kernel.PackageVersion(pin)
	return l, err
}

// resolveToolchain chooses the toolchain of the kernel's era, in the image that the
// asked make targets need.
func (s *session) resolveToolchain(v units.KernelVersion, old ToolchainLock) (ToolchainLock, error) {
	era, err := kernel.EraFor(v, s.spec.Toolchain)
	if err != nil {
		return ToolchainLock{}, err
	}
	image, err := era.Target(s.spec.Targets)
	if err != nil {
		return ToolchainLock{}, err
	}
	target, err := toolchain.ParseTarget(image)
	if err != nil {
		return ToolchainLock{}, err
	}
	l, err := shippedToolchain(target, old)
	l.Request, l.Compiler, l.Why = s.spec.Toolchain, era.CC, era.Line(v)
	return l, err
}

// kernelSteps are the source, where it has to be fetched, and the compile.
func (s *session) kernelSteps(l *Lock, tool *steps.Step) (compile *steps.Step, all []*steps.Step) {
	after := []*steps.Step{tool}
	if l.Kernel.Package != nil {
		after = append(after, s.sourceStep(l))
	}
	config, cerr := s.config(l.Config)
	compile = &steps.Step{
		ID:    "kernel",
		Title: fmt.Sprintf("compile Linux %s (%s, %s)", l.Kernel.Version, l.Config.Base, l.Toolchain.Compiler),
		Reads: []steps.Fact{
			{Name: "version", Value: kernelVersion},
			{Name: "source", Value: l.Kernel.Source + " " + l.Kernel.SHA256.Short()},
			{Name: "config", Value: configFact(l.Config, config)},
			{Name: "compiler", Value: l.Toolchain.Compiler},
			{Name: "epoch", Value: strconv.FormatInt(l.Kernel.Epoch, 10)},
		},
		After: after,
		Run: func(ctx context.Context, _ steps.Results, out *steps.Outputs, task *progress.Task) error {
			if cerr != nil {
				return cerr
			}
			return s.compile(ctx, l, config, out, task)
		},
	}
	if fixes := l.Kernel.fixes(l.Toolchain.Request); len(fixes) > 0 {
		compile.Reads = append(compile.Reads, steps.Fact{Name: "fixes", Value: fixFact(fixes)})
	}
	if len(l.Kernel.Patches) > 0 {
		compile.Reads = append(compile.Reads, steps.Fact{Name: "patches", Value: patchFact(l.Kernel.Patches)})
	}
	if len(s.spec.Targets) > 0 {
		compile.Reads = append(compile.Reads, steps.Fact{Name: "targets", Value: strings.Join(s.spec.Targets, " ")})
	}
	if slices.Contains(s.spec.Targets, kernel.BinDeb) {
		compile.Reads = append(compile.Reads, steps.Fact{Name: kernel.BinDeb, Value: "1"})
	}
	if config.Modules() {
		compile.Reads = append(compile.Reads, steps.Fact{Name: "modules", Value: "1"})
	}
	return compile, append(slices.Clone(after), compile)
}

func (s *session) sourceStep(l *Lock) *steps.Step {
	p := *l.Kernel.Package
	return &steps.Step{
		ID:    "source",
		Title: fmt.Sprintf("fetch %s %s", p.Name, p.Version),
		Reads: []steps.Fact{{Name: "package", Value: p.SHA256.Short()}},
		Ready: func(context.Context) (bool, error) { return s.store.Has(p.SHA256), nil },
		Run: func(ctx context.Context, _ steps.Results, _ *steps.Outputs, task *progress.Task) error {
			return s.fetch(ctx, *l.Kernel.Archive, []archive.Locked{p}, task)
		},
	}
}

// config is what the kernel is configured from. It is all in the lock.
func (s *session) config(l ConfigLock) (kernel.Config, error) {
	c := kernel.Config{Base: l.Base}
	var errs []error
	if !kernel.Builtin(l.Base) {
		c.File = []byte(l.Text)
	}
	for _, f := range l.Fragments {
		r, err := kernel.ParseFragment(strings.NewReader(f.Text), f.Path)
		c.Requests, errs = append(c.Requests, r...), append(errs, err)
	}
	for _, set := range l.Set {
		r, err := kernel.ParseSet(set)
		c.Requests, errs = append(c.Requests, r), append(errs, err)
	}
	return c, errors.Join(errs...)
}

func readFragment(name string) ([]kernel.Request, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read config fragment: %w", err)
	}
	defer f.Close()
	return kernel.ParseFragment(f, name)
}

// configFact is the configuration in a form that kimg plan can show: what the
// person wrote, and a digest of all that is behind it.
func configFact(l ConfigLock, c kernel.Config) string {
	fact := l.Base + " " + units.DigestOf([]byte(c.Text())).Short()
	for _, set := range l.Set {
		fact += " " + set
	}
	return fact
}

func (s *session) compile(ctx context.Context, l *Lock, config kernel.Config, out *steps.Outputs, task *progress.Task) error {
	eng, job, err := s.job(ctx, l, config)
	if err != nil {
		return err
	}
	return kernel.Build(ctx, eng, job, task, func(name string, mode fs.FileMode, _ int64, r io.Reader) error {
		return out.Add(name, mode, r)
	})
}

// job is the kernel to be compiled; its source and its toolchain are there.
func (s *session) job(ctx context.Context, l *Lock, config kernel.Config) (container.Engine, kernel.Job, error) {
	eng, id, err := s.image(ctx, l.Toolchain)
	if err != nil {
		return nil, kernel.Job{}, err
	}
	tree := s.tree
	if p := l.Kernel.Package; p != nil {
		if err := s.store.Verify(p.SHA256); err != nil {
			return nil, kernel.Job{}, err
		}
		if tree, err = kernel.PinPackage(*p, s.store.Path(p.SHA256)); err != nil {
			return nil, kernel.Job{}, err
		}
	}
	patches, err := l.Kernel.patches()
	if err != nil {
		return nil, kernel.Job{}, err
	}
	era, err := kernel.EraFor(l.Kernel.Version, l.Toolchain.Request)
	if err != nil {
		return nil, kernel.Job{}, err
	}
	job := kernel.Job{
		Tree: tree, Patches: append(l.Kernel.fixes(l.Toolchain.Request), patches...), Era: era, Image: l.Toolchain.Image, ImageID: id, Config: config,
		Epoch: time.Unix(l.Kernel.Epoch, 0).UTC(), Jobs: s.spec.Jobs, CacheDir: s.Cache, Ccache: s.Ccache, Targets: s.spec.Targets,
		Temporary: s.Temporary,
	}
	if s.Temporary {
		s.toRemove(job)
	}
	return eng, job, nil
}
