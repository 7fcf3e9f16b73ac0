package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/internal/units"
)

// ReplayError is a lock that cannot be built again here: what is missing, or
// what would become other bits.
type ReplayError struct {
	File string
	Err  error
	hint string
}

func (e *ReplayError) Error() string { return fmt.Sprintf("build from %s: %v", e.File, e.Err) }

// Unwrap gives the reason.
func (e *ReplayError) Unwrap() error { return e.Err }

// Hint is the way out.
func (e *ReplayError) Hint() string { return e.hint }

// replay plans what a lock file pins, and nothing else: the Spec is the lock's,
// nothing is resolved, and what this kimg would build otherwise is refused.
func (s *session) replay(ctx context.Context) (*Plan, error) {
	l, err := namedLock(s.spec.Lock)
	if err != nil {
		return nil, err
	}
	refuse := func(err error, hint string) error {
		return &ReplayError{File: s.spec.Lock, Err: err, hint: hint}
	}
	if l.Version != lockVersion {
		return nil, refuse(oldVersion(l), oldVersionHint)
	}
	if err := s.spec.contradicts(l); err != nil {
		return nil, err
	}
	s.spec = l.spec(s.spec)
	if err := s.spec.checkValues(); err != nil {
		return nil, &LockError{File: s.spec.Lock, Err: err}
	}
	src, err := s.localSource(ctx)
	if l.Kernel.local() {
		switch {
		case err == nil && string(src.Kind) != l.Kernel.Source:
			err = fmt.Errorf("the kernel source %s is no %s", s.spec.Kernel, l.Kernel.Source)
		case err == nil && s.tree.SHA256 != l.Kernel.SHA256:
			err = fmt.Errorf("the kernel source %s is not the locked one: its digest is %s, the lock's %s", s.spec.Kernel, s.tree.SHA256.Short(), l.Kernel.SHA256.Short())
		}
		if err != nil {
			return nil, refuse(err, "name the directory or tarball that holds the locked source with --kernel")
		}
	}
	if err != nil {
		return nil, err
	}
	if l.Kernel.Download != nil {
		if _, err := s.resolveDownload(ctx, src, KernelLock{Request: l.Kernel.Request, Source: l.Kernel.Source}, l.Kernel); err != nil {
			if isGone(err) {
				err = s.allMissing(ctx, s.plan(l), err)
			}
			return nil, err
		}
	}
	p := s.plan(l)
	if err := s.sameMeaning(p); err != nil {
		return nil, refuse(err, "use the kimg that wrote the lock, or move the lock to this one with kimg lock update")
	}
	return p, nil
}

// oldVersion tells that a lock is of a form that cannot be built from alone.
func oldVersion(l *Lock) error {
	return fmt.Errorf("it is of version %d, which does not pin all that version %d does", l.Version, lockVersion)
}

const oldVersionHint = "build once where it was made, which writes a lock of the new version"

// sameMeaning holds a plan against what its lock meant to who wrote it.
func (s *session) sameMeaning(p *Plan) error {
	l := p.Lock
	for _, t := range []ToolchainLock{l.Toolchain, l.Imaging} {
		if t.Image != t.Lock.Ref() {
			return fmt.Errorf("this kimg makes the toolchain %s in another way (%s, not %s)", t.Target, t.Lock.Ref(), t.Image)
		}
	}
	era, err := kernel.EraFor(l.Kernel.Version, l.Toolchain.Request)
	if err != nil {
		return err
	}
	target, err := era.Target(l.Kernel.Targets)
	if err != nil {
		return err
	}
	if era.CC != l.Toolchain.Compiler || target != string(l.Toolchain.Target) {
		return fmt.Errorf("this kimg compiles Linux %s with %s of %s, not with %s of %s", l.Kernel.Version, era.CC, target, l.Toolchain.Compiler, l.Toolchain.Target)
	}
	now := p.means()
	switch {
	case now.Kernel != l.Means.Kernel:
		return errors.New("this kimg makes the kernel in another way")
	case now.Image != l.Means.Image:
		return errors.New("this kimg makes the image in another way")
	}
	return nil
}

// spec is the Spec that a lock was made for; where and how things are done is
// from how.
func (l *Lock) spec(how Spec) Spec {
	if !l.Kernel.local() || !slices.Contains(how.Given, "kernel") {
		how.Kernel = l.Kernel.Request
	}
	how.Suite, how.Variant, how.Include = l.Rootfs.Suite, l.Rootfs.Variant, l.Rootfs.Include
	how.Config, how.Fragments, how.Set = l.Config.Base, nil, l.Config.Set
	how.Size, how.Toolchain, how.Targets, how.Patches = l.Image.Size, l.Toolchain.Request, l.Kernel.Targets, nil
	how.NoFixes = l.Kernel.NoFixes
	if d := l.Kernel.Download; d != nil {
		how.AllowUnsigned = d.Unsigned // its digest vouches for it now
	}
	how.Frozen = true
	return how
}

// contradicts tells of the first flag that asks for something else than the lock.
// A --kernel that is a path is none: it says where the locked source is.
func (s Spec) contradicts(l *Lock) error {
	want := l.spec(s)
	for _, flag := range s.Given {
		var asked, has string
		switch flag {
		case "kernel":
			src, err := kernel.ParseSource(s.Kernel)
			if err != nil {
				return &SpecError{Field: "--kernel", Err: err}
			}
			if asked, has = src.String(), l.Kernel.Request; l.Kernel.local() && src.Path != "" {
				continue
			}
		case "suite":
			asked, has = s.Suite, want.Suite
		case "variant":
			asked, has = string(s.Variant), string(want.Variant)
		case "size":
			asked, has = s.Size.String(), want.Size.String()
		case "toolchain":
			asked, has = s.Toolchain, want.Toolchain
		case "include":
			asked, has = strings.Join(includes(s), ","), strings.Join(want.Include, ",")
		case "target":
			asked, has = strings.Join(s.Targets, " "), strings.Join(want.Targets, " ")
		case "no-fixes":
			asked, has = fmt.Sprint(s.NoFixes), fmt.Sprint(want.NoFixes)
		case "patch":
			list, err := readPatches(s.Patches)
			if err != nil {
				return err
			}
			if samePatches(list, l.Kernel.Patches) {
				continue
			}
			asked, has = patchFact(list), patchFact(l.Kernel.Patches)
		case "set":
			asked, has = strings.Join(s.Set, " "), strings.Join(want.Set, " ")
		case "config":
			if asked, has = s.Config, l.Config.Base+text(l.Config.SHA256); !kernel.Builtin(asked) {
				f, err := lockFile(asked)
				if err != nil {
					return &SpecError{Field: "--config", Err: err}
				}
				asked = f.Path + text(f.SHA256)
				if f.SHA256 == l.Config.SHA256 {
					continue
				}
			}
		case "fragment":
			var a, b []units.Digest
			for _, name := range s.Fragments {
				f, err := lockFile(name)
				if err != nil {
					return &SpecError{Field: "--fragment", Err: err}
				}
				a = append(a, f.SHA256)
				asked += " " + f.Path + text(f.SHA256)
			}
			for _, f := range l.Config.Fragments {
				b = append(b, f.SHA256)
				has += " " + f.Path + text(f.SHA256)
			}
			if slices.Equal(a, b) {
				continue
			}
		}
		if asked != has {
			return &SpecError{Field: "--" + flag, Err: fmt.Errorf("asks for %s, and the lock %s pins %s: leave one of them out",
				cmp.Or(strings.TrimSpace(asked), "nothing"), s.Lock, cmp.Or(strings.TrimSpace(has), "nothing"))}
		}
	}
	return nil
}

func text(d units.Digest) string {
	if d == "" {
		return ""
	}
	return " (" + d.Short() + ")"
}

// unmoved refuses what is not pinned as it was, for --frozen.
func (l *Lock) unmoved(old *Lock) error {
	name := func(c ConfigLock) ConfigLock { // version 1 had whole paths and no text
		c.Base, c.Text = filepath.Base(c.Base), ""
		c.Fragments = slices.Clone(c.Fragments)
		for i, f := range c.Fragments {
			c.Fragments[i] = FileLock{Path: filepath.Base(f.Path), SHA256: f.SHA256}
		}
		if len(c.Set) == 0 {
			c.Set = nil
		}
		return c
	}
	switch {
	case l.Toolchain.Target != old.Toolchain.Target || l.Toolchain.Compiler != old.Toolchain.Compiler:
		return &FrozenError{fmt.Sprintf("the toolchain %s/%s", l.Toolchain.Target, l.Toolchain.Compiler)}
	case !reflect.DeepEqual(name(l.Config), name(old.Config)):
		return &FrozenError{"the kernel's configuration as it is now"}
	case !samePatches(l.Kernel.Patches, old.Kernel.Patches):
		return &FrozenError{"the patches as they are now"}
	case !slices.Equal(l.Kernel.Fixes, old.Kernel.Fixes):
		return &FrozenError{"the fixes of this kimg"}
	case !slices.Equal(l.Kernel.Targets, old.Kernel.Targets):
		return &FrozenError{"the make targets as they are now"}
	case l.Image.Size != old.Image.Size:
		return &FrozenError{"an image of " + l.Image.Size.String()}
	}
	return nil
}
