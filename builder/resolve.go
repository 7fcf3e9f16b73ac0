package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/builder/toolchain"
	"github.com/kimg/kimg/image"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/units"
)

// FrozenError is a part of the Spec that the lock does not pin while --frozen
// forbids to resolve it.
type FrozenError struct{ What string }

func (e *FrozenError) Error() string {
	return "the lock does not pin " + e.What + " and --frozen forbids to look for it"
}

// resolve turns the Spec into a Lock: the only part of a build that asks the
// outside world what there is. Sections of the old lock (nil: none) that were
// made for the same request are kept as they are.
func (s *session) resolve(ctx context.Context, old *Lock) (*Lock, error) {
	if old == nil {
		old = &Lock{}
	}
	l := &Lock{Version: lockVersion}
	// What is on this machine first: a slip in it is told before anything is asked.
	src, err := s.localSource(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.hasEra(src); err != nil {
		return nil, err
	}
	if l.Config, err = s.resolveConfig(); err != nil {
		return nil, err
	}
	patches, err := readPatches(s.spec.Patches)
	if err != nil {
		return nil, err
	}
	if l.Rootfs, err = s.resolveRootfs(ctx, old.Rootfs); err != nil {
		return nil, err
	}
	if l.Kernel, err = s.resolveKernel(ctx, src, old.Kernel); err != nil {
		return nil, err
	}
	if l.Toolchain, err = s.resolveToolchain(l.Kernel.Version, old.Toolchain); err != nil {
		return nil, err
	}
	if l.Imaging, err = shippedToolchain(toolchain.Imaging, old.Imaging); err != nil {
		return nil, err
	}
	l.Kernel.Epoch, l.Kernel.Targets, l.Kernel.Patches = l.Toolchain.Lock.Date.Unix(), s.spec.Targets, patches
	l.Kernel.NoFixes = s.spec.NoFixes
	l.Kernel.Fixes = fixLocks(l.Kernel.fixes(l.Toolchain.Request))
	l.Image = imageLock(s.spec.Size, l.Rootfs)
	if s.spec.Frozen {
		return l, l.unmoved(old)
	}
	return l, nil
}

func (s *session) resolveRootfs(ctx context.Context, old RootfsLock) (RootfsLock, error) {
	if old.asks(s.spec) {
		return old, nil
	}
	if s.spec.Frozen {
		return RootfsLock{}, &FrozenError{"the packages of " + s.spec.Suite}
	}
	suite, err := archive.ParseSuite(s.spec.Suite)
	if err != nil {
		return RootfsLock{}, err
	}
	rel, index, err := s.index(ctx, suite)
	if err != nil {
		return RootfsLock{}, err
	}
	set, err := index.Closure(archive.ClosureSpec{Suite: suite, Variant: s.spec.Variant, Include: append(image.Includes(s.spec.Variant), includes(s.spec)...)})
	if err != nil {
		return RootfsLock{}, fmt.Errorf("choose packages of %s: %w", suite, err)
	}
	return RootfsLock{
		Suite: suite.Name, Variant: s.spec.Variant, Include: includes(s.spec),
		Epoch: rel.Date.Unix(), Archive: archiveLock(rel),
		Required: locked(set.Required), Base: locked(set.Base),
	}, nil
}

// indexed is a suite's signed index.
type indexed struct {
	release *archive.Release
	index   *archive.Index
}

// index reads the signed index of a suite, once in a run.
func (s *session) index(ctx context.Context, suite archive.Suite) (*archive.Release, *archive.Index, error) {
	if i, ok := s.indices[suite.Name]; ok {
		return i.release, i.index, nil
	}
	rel, index, err := s.readIndex(ctx, suite)
	if err == nil {
		s.indices[suite.Name] = indexed{rel, index}
	}
	return rel, index, err
}

func (s *session) readIndex(ctx context.Context, suite archive.Suite) (*archive.Release, *archive.Index, error) {
	ac, err := s.archive(suite, time.Time{})
	if err != nil {
		return nil, nil, err
	}
	task := progress.Start(s.Sink, "index-"+suite.Name, "read the index of "+suite.Name, progress.Why(ac.Mirror.URL))
	rel, err := ac.Release(ctx, suite)
	if err != nil {
		task.End(false, err)
		return nil, nil, err
	}
	index, err := ac.Index(ctx, rel, nil)
	task.End(false, err)
	if err != nil {
		return nil, nil, err
	}
	return rel, index, nil
}

func archiveLock(r *archive.Release) ArchiveLock {
	return ArchiveLock{Suite: r.Suite.Name, Date: r.Date.UTC(), InRelease: r.InRelease, SignedBy: r.SignedBy}
}

func locked(list []archive.Package) []archive.Locked {
	out := make([]archive.Locked, len(list))
	for i, p := range list {
		out[i] = p.Locked()
	}
	return out
}

func (s *session) resolveConfig() (ConfigLock, error) {
	c := ConfigLock{Base: s.spec.Config, Set: s.spec.Set}
	if !kernel.Builtin(s.spec.Config) {
		f, err := lockFile(s.spec.Config)
		if err != nil {
			return c, err
		}
		if c.Base, c.SHA256, c.Text = f.Path, f.SHA256, f.Text; kernel.Builtin(c.Base) {
			c.Base = "./" + c.Base // a file that is called so
		}
	}
	for _, name := range s.spec.Fragments {
		f, err := lockFile(name)
		if err != nil {
			return c, err
		}
		c.Fragments = append(c.Fragments, f)
	}
	parsed, err := s.config(c)
	if err == nil {
		err = parsed.Check()
	}
	if err != nil { // before anything is made for it
		return c, &SpecError{Field: "config", Err: err}
	}
	return c, nil
}

// maxConfig bounds a config or a fragment, in bytes: a distribution's has 300 KB.
const maxConfig = 4 << 20

// lockFile is for the person's own small files.
func lockFile(name string) (FileLock, error) {
	f, err := os.Open(name)
	if err != nil {
		return FileLock{}, fmt.Errorf("read config: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(b) > maxConfig {
		err = fmt.Errorf("%s has more than %d bytes: is it a config?", name, maxConfig)
	}
	if err != nil {
		return FileLock{}, fmt.Errorf("read config: %w", err)
	}
	return FileLock{Path: filepath.Base(name), SHA256: units.DigestOf(b), Text: string(b)}, nil
}

// shippedToolchain returns the pins of a target: those of the old lock, so that
// a new kimg does not move them, else those that ship with kimg.
func shippedToolchain(target toolchain.Target, old ToolchainLock) (ToolchainLock, error) {
	if old.Target == target && old.Lock != nil {
		old.Image = old.Lock.Ref()
		return old, nil
	}
	lock, err := toolchain.Load(target)
	if err != nil {
		return ToolchainLock{}, err
	}
	return ToolchainLock{Target: target, Origin: Shipped, Image: lock.Ref(), Lock: lock}, nil
}

// renew resolves the toolchains anew from the signed archive where their locked
// packages can no longer be had, and tells the person: a fresh machine always
// gets its kernel, and no one takes a moved toolchain for the shipped one.
func (s *session) renew(ctx context.Context, t *ToolchainLock) error {
	progress.Warn(s.Sink, fmt.Sprintf("toolchain %s: locked packages can no longer be had; resolving it anew from the signed archive (the result differs from what the lock would have given)", t.Target))
	lock, err := s.resolveAnew(ctx, t.Target)
	if err != nil {
		return err
	}
	t.Lock, t.Origin, t.Image = lock, Resolved, lock.Ref()
	return nil
}

// oldLock reads the lock of the out directory; nil when there is none.
func (s *session) oldLock() (*Lock, error) {
	l, err := ReadLock(filepath.Join(s.spec.Out, LockFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return l, err
}
