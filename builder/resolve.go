package builder

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/builder/toolchain"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/suite"
)

// Resolve pins what a request asks for: the only part of a build that asks the outside world what there is.
// Sections of the previous lock (nil: none) that were made for the same request are kept as they are. With Frozen
// sources, what the previous lock does not pin is a *spec.FrozenError.
func Resolve(ctx context.Context, s *Sources, q spec.Request, previous *spec.Lock) (*spec.Lock, error) {
	return (&resolver{Sources: s, q: q, old: previous}).lock(ctx)
}

type resolver struct {
	*Sources
	q   spec.Request
	old *spec.Lock

	kernelOnly bool // the root filesystem and the image are not pinned
	keepKernel bool // the previous lock's, though the user's own source may have changed
	pinsOnly   bool // nothing is built: overlays that are pinned need not be in the store
}

func (r *resolver) lock(ctx context.Context) (*spec.Lock, error) {
	if r.old == nil {
		r.old = &spec.Lock{Arch: r.q.Arch}
	}
	l := &spec.Lock{Version: spec.LockVersion, Arch: r.q.Arch, Config: r.q.Config}
	// Validate local inputs before going to the network.
	src, err := r.localSource(ctx)
	if err != nil {
		return nil, err
	}
	if !r.kernelOnly {
		if l.Rootfs, err = r.rootfs(ctx); err != nil {
			return nil, err
		}
		if l.Custom, err = r.custom(ctx); err != nil {
			return nil, err
		}
		imaging, err := imagingOf(r.q)
		if err != nil {
			return nil, err
		}
		if l.Imaging, err = shippedToolchain(imaging, r.old.Imaging); err != nil {
			return nil, err
		}
	}
	if l.Kernel, err = r.kernel(ctx, src); err != nil {
		return nil, err
	}
	if l.Toolchain, err = r.toolchain(l.Kernel); err != nil {
		return nil, err
	}
	r.derive(l)
	if r.from.Frozen {
		return l, l.Unmoved(r.old)
	}
	return l, nil
}

func (r *resolver) derive(l *spec.Lock) {
	k := &l.Kernel
	k.Epoch, k.Targets, k.Patches, k.NoFixes = l.Toolchain.Lock.Date.Unix(), r.q.Targets, r.q.Patches, r.q.NoFixes
	k.Fixes = spec.FixLocks(k.KimgFixes(l.Toolchain.Request))
	if !r.kernelOnly {
		l.Image = spec.NewImageLock(r.q.Size, l.Rootfs, l.Custom)
	}
	l.Image.Form = r.q.Form // of which the kernel's configuration follows, too
}

// localSource reads what --kernel says, looks at a source of the user's own, and refuses a kernel that is too old,
// or that cannot be packed, before anything is downloaded for it, where its version is known by then.
func (r *resolver) localSource(ctx context.Context) (kernel.Source, error) {
	src, err := kernel.ParseSource(r.q.Kernel)
	if err != nil {
		return src, &spec.InputError{Field: "kernel", Err: err}
	}
	if r.keepKernel {
		return src, nil
	}
	version := src.Version
	switch src.Kind {
	case kernel.Directory, kernel.Tarball:
		tree, err := r.localTree(ctx, src)
		if err != nil {
			return src, err
		}
		version = tree.Version
	case kernel.Release:
	default:
		return src, nil
	}
	era, err := kernel.EraFor(version, r.q.Toolchain)
	if err == nil {
		_, err = era.Target(r.q.Arch, r.q.Targets)
	}
	return src, err
}

func archiveLock(r *archive.Release) spec.ArchiveLock {
	return spec.ArchiveLock{Suite: r.Suite.Name, Date: r.Date.UTC(), InRelease: r.InRelease, SignedBy: r.SignedBy}
}

func locked(list []archive.Package) []archive.Locked {
	out := make([]archive.Locked, len(list))
	for i, p := range list {
		out[i] = p.Locked()
	}
	return out
}

// kernel pins the kernel's source. A package and a download keep their pins while the request is the same.
func (r *resolver) kernel(ctx context.Context, src kernel.Source) (spec.KernelLock, error) {
	if r.keepKernel {
		return r.old.Kernel, nil
	}
	l := spec.KernelLock{Request: src.String(), Source: string(src.Kind)}
	switch src.Kind {
	case kernel.Suite:
		return r.sourcePackage(ctx, src, l)
	case kernel.Release, kernel.URL:
		return r.downloaded(ctx, src, l)
	}
	tree, err := r.localTree(ctx, src)
	if err != nil {
		return l, err
	}
	l.Version, l.SHA256, l.Request = tree.Version, tree.SHA256, r.q.Kernel
	if r.from.Frozen && l.SHA256 != r.old.Kernel.SHA256 {
		return l, &spec.FrozenError{What: fmt.Sprintf("the kernel source %s as it is now", tree.Path)}
	}
	return l, nil
}

func (r *resolver) sourcePackage(ctx context.Context, src kernel.Source, l spec.KernelLock) (spec.KernelLock, error) {
	l.Suite = r.q.Suite
	old := r.old.Kernel
	if old.Request == l.Request && old.Suite == l.Suite && old.Package != nil && old.Archive != nil {
		return old, nil
	}
	if r.from.Frozen {
		return l, &spec.FrozenError{What: "the kernel of " + l.Suite}
	}
	of, err := suite.Parse(l.Suite)
	if err != nil {
		return l, err
	}
	rel, index, err := r.index(ctx, of, r.q.Arch, nil)
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

// downloaded pins a kernel that has to be downloaded: here, since only its own Makefile tells its version.
func (r *resolver) downloaded(ctx context.Context, src kernel.Source, l spec.KernelLock) (spec.KernelLock, error) {
	old := r.old.Kernel
	pinned := old.Request == l.Request && old.Source == l.Source && old.Download != nil
	switch {
	case pinned && r.from.VerifyTar && len(old.Download.TarSignedBy) == 0:
		pinned = false // it was not checked as far as is asked now
	case pinned && old.Download.Unsigned && !r.from.AllowUnsigned:
		pinned = false // it was let pass, and no longer is
	}
	if r.from.Frozen && !pinned {
		return l, &spec.FrozenError{What: "the kernel " + l.Request}
	}
	if pinned {
		l = old
	}
	if !pinned || !r.store.Has(l.SHA256) {
		got, err := r.download(ctx, src, l)
		if err != nil {
			return l, err
		}
		if !pinned {
			l.Download = &got
		}
	}
	l.SHA256 = l.Download.SHA256
	tree, err := r.tree(ctx, l, "")
	if err != nil {
		return l, err
	}
	l.Version = tree.Version
	return l, nil
}

// toolchain chooses the toolchain of the kernel's era, in the image that the asked make targets need.
func (r *resolver) toolchain(k spec.KernelLock) (spec.ToolchainLock, error) {
	era, err := kernel.EraFor(k.Version, r.q.Toolchain)
	if err != nil {
		return spec.ToolchainLock{}, err
	}
	image, err := era.Target(r.q.Arch, r.q.Targets)
	if err != nil {
		return spec.ToolchainLock{}, err
	}
	target, err := toolchain.ParseTarget(image)
	if err != nil {
		return spec.ToolchainLock{}, err
	}
	l, err := shippedToolchain(target, r.old.Toolchain)
	l.Request, l.Compiler, l.Why = r.q.Toolchain, era.CC, era.Line(k.Version, r.q.Arch)
	return l, err
}

// shippedToolchain returns the pins of a target: the old lock's, else those that ship with kimg.
func shippedToolchain(target toolchain.Target, old spec.ToolchainLock) (spec.ToolchainLock, error) {
	if old.Target == target && old.Lock != nil {
		old.Image = old.Lock.Ref()
		return old, nil
	}
	locks, err := shippedLocks(target)
	if err != nil {
		return spec.ToolchainLock{}, err
	}
	return spec.ToolchainLock{Target: target, Origin: spec.Shipped, Image: locks[0].Ref(), Lock: locks[0],
		Engines: locks[1:]}, nil
}

// shippedLocks are those that ship with kimg for each architecture of engines, the default first.
func shippedLocks(target toolchain.Target) ([]*toolchain.Lock, error) {
	var all []*toolchain.Lock
	for _, engine := range target.Engines() {
		l, err := toolchain.Load(target, engine)
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}

// renew resolves a toolchain anew from the signed archive where its locked packages can no longer be had, and says
// so: a fresh machine always gets its kernel, and a moved toolchain is not taken for the shipped one.
func (s *Sources) renew(ctx context.Context, t *spec.ToolchainLock) error {
	progress.Warn(s.env.Sink, fmt.Sprintf("toolchain %s: locked packages can no longer be had; resolving it anew "+
		"from the signed archive (the result differs from what the lock would have given)", t.Target))
	locks, err := s.resolveToolchains(ctx, t.Target)
	if err != nil {
		return err
	}
	t.Lock, t.Engines, t.Origin, t.Image = locks[0], locks[1:], spec.Resolved, locks[0].Ref()
	return nil
}

// resolveToolchains resolves a target for each architecture of engines, the default first.
func (s *Sources) resolveToolchains(ctx context.Context, target toolchain.Target) ([]*toolchain.Lock, error) {
	var all []*toolchain.Lock
	for _, engine := range target.Engines() {
		l, err := s.resolveToolchain(ctx, target, engine)
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}

func (s *Sources) resolveToolchain(
	ctx context.Context, target toolchain.Target, engine spec.Arch,
) (*toolchain.Lock, error) {
	of, err := target.Suite()
	if err != nil {
		return nil, err
	}
	ac, err := s.archive(of, engine, time.Time{})
	if err != nil {
		return nil, err
	}
	what := string(target)
	if engine != arch.Default {
		what += " for engines of " + engine.Name
	}
	task := progress.Start(s.env.Sink, "relock-"+string(target)+"-"+engine.Name, "resolve the toolchain "+what,
		progress.Why(ac.Mirror.URL))
	fresh, err := toolchain.Resolve(ctx, ac, target)
	task.End(false, err)
	return fresh, err
}

// isMissing reports whether packages can no longer be had, which a lock that is resolved anew mends.
func isMissing(err error) bool {
	var m *archive.MissingError
	return errors.As(err, &m)
}
