package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/kimg/kimg/builder/toolchain"
	"github.com/kimg/kimg/internal/progress"
)

// UpdateParts are the parts of a lock that can be moved by name.
var UpdateParts = []string{"kernel", "suite", "toolchain"}

// UpdateRequest asks to move pins of a lock.
type UpdateRequest struct {
	Parts  []string // of UpdateParts; none: all of them
	Newest bool     // toolchains from the archive as it is now, and not those that ship with kimg
	DryRun bool     // write nothing
}

// Update moves pins of a lock, that of the Spec's out directory or the file
// Spec.Lock, to what there is now, and tells what moved. What the lock was made for
// stays as it is: of the Spec only the mirrors and keys count, and Kernel where
// it says that the locked directory or tarball is somewhere else now. Nothing but
// the lock is written. A lock that is not there is a
// *NoLockError.
//
// A lock of another kimg becomes this one's: what this one makes in another way
// is told as a move, too.
func Update(ctx context.Context, env Env, spec Spec, req UpdateRequest) (_ *LockChange, err error) {
	for _, p := range req.Parts {
		if !slices.Contains(UpdateParts, p) {
			return nil, &SpecError{Field: "lock update", Err: fmt.Errorf("%q is no part of a lock: want %s", p, strings.Join(UpdateParts, ", "))}
		}
	}
	file := lockOf(spec)
	if real, err := filepath.EvalSymlinks(file); err == nil { // the link stays one
		file = real
	}
	spec.Out = filepath.Dir(file)
	s, done, err := openLocked(ctx, env, spec)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	old, err := namedLock(file)
	if err != nil {
		return nil, err
	}
	if old.Version != lockVersion {
		return nil, &ReplayError{File: file, Err: oldVersion(old), hint: oldVersionHint}
	}
	fresh, err := s.update(ctx, old, req)
	if err != nil {
		return nil, err
	}
	change := &LockChange{File: file, Parts: diffLocks(old, fresh, s.plan(old).means())}
	if req.DryRun || len(change.Parts) == 0 {
		return change, nil
	}
	b, err := fresh.Marshal()
	if err != nil {
		return nil, err
	}
	if err := renameio.WriteFile(file, b, 0o644, renameio.WithExistingPermissions()); err != nil {
		return nil, fmt.Errorf("write lock: %w", err)
	}
	change.Written = true
	return change, nil
}

// lockOf is the lock that a Spec names.
func lockOf(spec Spec) string { return cmp.Or(spec.Lock, filepath.Join(spec.Out, LockFile)) }

// update moves the parts of old that are asked for. A part that would hold the
// same packages keeps its pins whole: that the archive was signed again since is
// no reason to build anew.
func (s *session) update(ctx context.Context, old *Lock, req UpdateRequest) (*Lock, error) {
	moves := func(part string) bool { return len(req.Parts) == 0 || slices.Contains(req.Parts, part) }
	s.spec = old.spec(s.spec)
	s.spec.Frozen = false
	if err := s.spec.checkValues(); err != nil {
		return nil, err
	}
	l := *old
	var err error
	if moves("suite") {
		if l.Rootfs, err = s.resolveRootfs(ctx, RootfsLock{}); err != nil {
			return nil, err
		}
		if slices.Equal(l.Rootfs.Packages(), old.Rootfs.Packages()) {
			l.Rootfs = old.Rootfs
		}
	}
	if moves("kernel") {
		if l.Kernel, err = s.moveKernel(ctx, old.Kernel); err != nil {
			return nil, err
		}
	}
	if l.Toolchain, err = s.resolveToolchain(l.Kernel.Version, old.Toolchain); err != nil {
		return nil, err
	}
	if l.Imaging, err = shippedToolchain(toolchain.Imaging, old.Imaging); err != nil {
		return nil, err
	}
	if moves("toolchain") {
		for _, t := range []*ToolchainLock{&l.Toolchain, &l.Imaging} {
			if err := s.moveToolchain(ctx, t, req.Newest); err != nil {
				return nil, err
			}
		}
	}
	l.Kernel.Epoch, l.Kernel.Targets = l.Toolchain.Lock.Date.Unix(), old.Kernel.Targets
	l.Kernel.Patches, l.Kernel.NoFixes = old.Kernel.Patches, old.Kernel.NoFixes
	l.Kernel.Fixes = fixLocks(l.Kernel.fixes(l.Toolchain.Request))
	l.Image = imageLock(old.Image.Size, l.Rootfs)
	l.Means = s.plan(&l).means()
	return &l, nil
}

// moveKernel pins the kernel anew.
func (s *session) moveKernel(ctx context.Context, old KernelLock) (KernelLock, error) {
	src, err := s.localSource(ctx)
	if err != nil {
		return old, err
	}
	if err := s.hasEra(src); err != nil {
		return old, err
	}
	l, err := s.resolveKernel(ctx, src, KernelLock{})
	if err == nil && l.Package != nil && old.Package != nil && *l.Package == *old.Package {
		return old, nil
	}
	return l, err
}

// moveToolchain takes the toolchain that ships with this kimg, which was proven
// to make kernels that boot; or, where newest asks for it, or where the lock's was
// resolved because what shipped could no longer be had, what the archive has now.
func (s *session) moveToolchain(ctx context.Context, t *ToolchainLock, newest bool) error {
	shipped, err := toolchain.Load(t.Target)
	if err != nil {
		return err
	}
	same := func(a, b *toolchain.Lock) bool {
		return slices.Equal(a.Base, b.Base) && slices.Equal(a.Packages, b.Packages)
	}
	lock, origin := shipped, Shipped
	if newest || t.Origin == Resolved && t.Lock.Date.After(shipped.Date) {
		if lock, err = s.resolveAnew(ctx, t.Target); err != nil {
			return err
		}
		if origin = Resolved; same(lock, shipped) {
			lock, origin = shipped, Shipped
		}
	}
	if same(lock, t.Lock) && origin == t.Origin && lock.Suite.Name == t.Lock.Suite.Name {
		lock = t.Lock
	}
	t.Lock, t.Origin, t.Image = lock, origin, lock.Ref()
	return nil
}

// resolveAnew resolves the packages of a toolchain from the signed archive.
func (s *session) resolveAnew(ctx context.Context, t toolchain.Target) (*toolchain.Lock, error) {
	suite, err := t.Suite()
	if err != nil {
		return nil, err
	}
	ac, err := s.archive(suite, time.Time{})
	if err != nil {
		return nil, err
	}
	task := progress.Start(s.Sink, "relock-"+string(t), "resolve the toolchain "+string(t), progress.Why(ac.Mirror.URL))
	fresh, err := toolchain.Resolve(ctx, ac, t)
	task.End(false, err)
	return fresh, err
}

// LookAtLock reads the lock that a Spec names. why says what keeps this kimg from
// building what the lock means; nil: nothing that is in the lock.
func LookAtLock(env Env, spec Spec) (l *Lock, file string, why, err error) {
	file = lockOf(spec)
	if l, err = namedLock(file); err != nil {
		return nil, file, nil, err
	}
	if l.Version != lockVersion {
		return l, file, oldVersion(l), nil
	}
	s, err := open(env, l.spec(spec))
	if err != nil {
		return nil, file, nil, err
	}
	return l, file, s.sameMeaning(s.plan(l)), s.close()
}
