package builder

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/builder/toolchain"
)

// UpdateRequest asks to move pins of a lock.
type UpdateRequest struct {
	Parts  []string // of spec.Parts; none: all of them
	Newest bool     // toolchains from the archive as it is now, and not those that ship with kimg
	DryRun bool     // write nothing
}

// Update moves pins of a lock, that of the Spec's out directory or the file Spec.Lock, to what there is now, and
// says what moved. What the lock was made for stays as it is: of the Spec only the Sources count, and Kernel where
// it says that the locked directory or tarball is somewhere else now. Nothing but the lock is written. A lock that
// is not there is a *spec.NoLockError.
//
// A lock of another kimg becomes this one's: what this one makes in another way is reported as a move, too.
func Update(ctx context.Context, env Env, sp spec.Spec, req UpdateRequest) (_ *spec.Change, err error) {
	for _, p := range req.Parts {
		if !slices.Contains(spec.Parts, p) {
			err := fmt.Errorf("%q is not a part of a lock: want %s", p, strings.Join(spec.Parts, ", "))
			return nil, &spec.InputError{Field: "lock update", Err: err}
		}
	}
	file := sp.LockPath()
	if real, err := filepath.EvalSymlinks(file); err == nil { // the link stays one
		file = real
	}
	old, err := spec.NamedLock(file)
	if err != nil {
		return nil, err
	}
	t, done, err := openLocked(ctx, env, sp.Sources, old.Rootfs.Suite, filepath.Dir(file))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	if old, err = spec.NamedLock(file); err != nil { // as it is now that nobody else writes it
		return nil, err
	}
	again, err := NewPlan(old)
	if err != nil {
		return nil, &spec.LockError{File: file, Err: err}
	}
	fresh, err := t.update(ctx, old, sp, req)
	if err != nil {
		return nil, err
	}
	change := &spec.Change{File: file, Parts: spec.Diff(old, fresh, again.actions())}
	if req.DryRun || len(change.Parts) == 0 && old.Current() == nil {
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

// update moves the parts of old that are asked for. A part that would hold the same packages keeps its pins whole:
// that the archive was signed again since is no reason to build anew.
func (t *tools) update(ctx context.Context, old *spec.Lock, sp spec.Spec, req UpdateRequest) (*spec.Lock, error) {
	moves := func(part string) bool { return len(req.Parts) == 0 || slices.Contains(req.Parts, part) }
	q := old.Request()
	if old.Kernel.Local() && slices.Contains(sp.Given, "kernel") {
		q.Kernel = sp.Kernel
	}
	if err := q.Check(); err != nil {
		return nil, err
	}
	if d := old.Kernel.Download; d != nil && d.Unsigned {
		t.from.AllowUnsigned = true
	}
	from := *old
	if moves("suite") {
		from.Rootfs = spec.RootfsLock{}
	}
	if moves("kernel") {
		from.Kernel = spec.KernelLock{}
	}
	r := &resolver{Sources: t.Sources, q: q, old: &from, keepKernel: !moves("kernel"), pinsOnly: true}
	l, err := r.lock(ctx)
	if err != nil {
		return nil, err
	}
	if slices.Equal(l.Rootfs.Packages(), old.Rootfs.Packages()) {
		l.Rootfs = old.Rootfs
	}
	if p := l.Kernel.Package; p != nil && old.Kernel.Package != nil && *p == *old.Kernel.Package {
		l.Kernel = old.Kernel
	}
	if moves("toolchain") {
		for _, tl := range []*spec.ToolchainLock{&l.Toolchain, &l.Imaging} {
			if err := t.moveToolchain(ctx, tl, req.Newest); err != nil {
				return nil, err
			}
		}
	}
	r.derive(l)
	p, err := NewPlan(l)
	if err != nil {
		return nil, err
	}
	l.Actions = p.actions()
	if l.Kernel.SHA256 == old.Kernel.SHA256 { // nothing is made that would say it anew
		l.Kernel.Release = old.Kernel.Release
	}
	return l, nil
}

// moveToolchain takes the toolchain that ships with this kimg; or what the archive has, where newest asks for it, or
// where the lock's was resolved because what shipped could no longer be had.
func (s *Sources) moveToolchain(ctx context.Context, t *spec.ToolchainLock, newest bool) error {
	shipped, err := shippedLocks(t.Target)
	if err != nil {
		return err
	}
	same := func(a, b []*toolchain.Lock) bool {
		return slices.EqualFunc(a, b, func(a, b *toolchain.Lock) bool {
			return slices.Equal(a.Base, b.Base) && slices.Equal(a.Packages, b.Packages) && a.Suite.Name == b.Suite.Name
		})
	}
	locks, origin := shipped, spec.Shipped
	if newest || t.Origin == spec.Resolved && t.Lock.Date.After(shipped[0].Date) {
		if locks, err = s.resolveToolchains(ctx, t.Target); err != nil {
			return err
		}
		if origin = spec.Resolved; same(locks, shipped) {
			locks, origin = shipped, spec.Shipped
		}
	}
	if origin == t.Origin && same(locks[:1], []*toolchain.Lock{t.Lock}) {
		locks[0] = t.Lock
	}
	t.Lock, t.Engines, t.Origin, t.Image = locks[0], locks[1:], origin, locks[0].Ref()
	return nil
}
