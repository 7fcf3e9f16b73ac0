package builder

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/internal/kernelorg"
)

// ReplayError is a lock that cannot be built again here: what is missing, or what would become other bits.
type ReplayError struct {
	File string
	Err  error
	hint string
}

func (e *ReplayError) Error() string { return fmt.Sprintf("build from %s: %v", e.File, e.Err) }

func (e *ReplayError) Unwrap() error { return e.Err }

// Hint says what helps.
func (e *ReplayError) Hint() string { return e.hint }

const (
	updateHint = "use the kimg that wrote the lock, or renew the lock for this one with kimg lock update"
	localHint  = "name the directory or tarball that holds the locked source with --kernel"
)

type wanted struct {
	q      spec.Request
	from   spec.Sources
	pinned *spec.Lock // that the Spec names, and nothing else is built; nil: it names none
	file   string     // of pinned
	sp     spec.Spec  // which says where something was asked for
}

// want reads what a Spec asks for: what it says itself, or what the lock pins that it names.
func want(sp spec.Spec) (*wanted, error) {
	w := &wanted{from: sp.Sources, file: sp.Lock, sp: sp}
	var err error
	if w.file == "" {
		if err = sp.Check(); err == nil {
			w.q, err = sp.Request()
		}
		return w, err
	}
	l, err := spec.NamedLock(w.file)
	if err != nil {
		return nil, err
	}
	if err := l.Current(); err != nil {
		return nil, &ReplayError{File: w.file, Err: err, hint: updateHint}
	}
	if err := sp.Conflict(l); err != nil {
		return nil, err
	}
	w.pinned, w.q = l, l.Request()
	if l.Kernel.Local() && slices.Contains(sp.Given, "kernel") {
		w.q.Kernel = sp.Kernel
	}
	if slices.Contains(sp.Given, "overlay") {
		w.q.Custom.Overlays = slices.Clone(w.q.Custom.Overlays)
		for i, from := range sp.Overlay {
			w.q.Custom.Overlays[i].From = from
		}
	}
	if debs := sp.Debs(); len(debs) > 0 && slices.Contains(sp.Given, "include") {
		w.q.Debs = debs
	}
	if err := w.q.Check(); err != nil {
		return nil, &spec.LockError{File: w.file, Err: err}
	}
	w.from.Frozen = true
	if d := l.Kernel.Download; d != nil {
		w.from.AllowUnsigned = d.Unsigned // its digest vouches for it now
	}
	return w, nil
}

func (r *run) prepare(ctx context.Context, w *wanted, out string) (*Plan, error) {
	if w.pinned != nil {
		return r.replay(ctx, w)
	}
	old, err := lockIn(out)
	if err != nil {
		return nil, err
	}
	l, err := Resolve(ctx, r.Sources, w.q, old)
	if err != nil {
		return nil, w.sp.Located(err)
	}
	return NewPlan(l)
}

// replay plans what a lock file pins, and refuses what this kimg would build otherwise.
func (r *run) replay(ctx context.Context, w *wanted) (*Plan, error) {
	pinned := w.pinned
	if pinned.Kernel.Local() {
		if _, err := r.tree(ctx, pinned.Kernel, w.q.Kernel); err != nil {
			return nil, &ReplayError{File: w.file, Err: err, hint: localHint}
		}
	}
	if err := Compatible(pinned); err != nil {
		return nil, &ReplayError{File: w.file, Err: err, hint: updateHint}
	}
	p, err := NewPlan(pinned)
	if err != nil {
		return nil, err
	}
	// What comes of it is not built, but what is pinned, to the letter; it has the kernel fetched, and refuses.
	if _, err := Resolve(ctx, r.Sources, w.q, pinned); err != nil {
		if none := (*kernelorg.NotFoundError)(nil); errors.As(err, &none) {
			err = r.allMissing(ctx, p, w.file, err)
		}
		return nil, err
	}
	return p, nil
}

// Compatible returns why this kimg cannot build the lock as the kimg that wrote it meant it, or nil.
func Compatible(l *spec.Lock) error {
	if err := l.Current(); err != nil {
		return err
	}
	for _, t := range []spec.ToolchainLock{l.Toolchain, l.Imaging} {
		if t.Image != t.Lock.Ref() {
			return fmt.Errorf("this kimg makes the toolchain %s differently (%s, not %s)", t.Target, t.Lock.Ref(),
				t.Image)
		}
	}
	era, err := kernel.EraFor(l.Kernel.Version, l.Toolchain.Request)
	if err != nil {
		return err
	}
	target, err := era.Target(l.Arch, l.Kernel.Targets)
	if err != nil {
		return err
	}
	if era.CC != l.Toolchain.Compiler || target != string(l.Toolchain.Target) {
		return fmt.Errorf("this kimg compiles Linux %s with %s of %s, not with %s of %s",
			l.Kernel.Version, era.CC, target, l.Toolchain.Compiler, l.Toolchain.Target)
	}
	p, err := NewPlan(l)
	if err != nil {
		return err
	}
	switch now := p.actions(); {
	case now.Kernel != l.Actions.Kernel:
		return errors.New("this kimg makes the kernel differently")
	case now.Image != l.Actions.Image:
		return errors.New("this kimg makes the image differently")
	}
	return nil
}
