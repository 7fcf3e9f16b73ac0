// Package builder builds the whole: it turns a Spec into a Lock (resolve), the
// Lock into Steps (plan), and runs them into artifacts and a manifest. Each of
// the three is a file of its own and knows nothing of the ones after it. The
// kernel's part is in builder/kernel, the images that things run in are made by
// builder/toolchain, the root filesystem's part is in package image. The
// package must not know of flags, terminals or exit statuses.
package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/internal/cache"
	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/steps"
	"github.com/kimg/kimg/internal/store"
	"github.com/kimg/kimg/internal/units"
	"github.com/kimg/kimg/internal/version"
)

// Build makes what the Spec asks for and puts it into the Spec's out directory.
// A build in which nothing changed only looks.
func Build(ctx context.Context, env Env, spec Spec) (_ *Manifest, err error) {
	s, done, err := openLocked(ctx, env, spec)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	out, err := s.outDir()
	if err != nil {
		return nil, err
	}
	if err := out.ready(); err != nil {
		return nil, err
	}
	if err := out.guard(slices.Concat(artifactNames, documentNames)); err != nil {
		return nil, err
	}
	p, err := s.prepare(ctx)
	if err != nil {
		return nil, err
	}
	progress.Say(s.Sink, p.Lock.Toolchain.Why)
	p, res, err := s.runAll(ctx, p)
	if err != nil {
		return nil, err
	}
	m, lock, err := s.manifest(p, res)
	if err != nil {
		return nil, err
	}
	kept, err := out.put(ctx, s.store, m.Build.Artifacts)
	var damaged *store.CorruptError
	if errors.As(err, &damaged) {
		progress.Warn(s.Sink, damaged.Error())
		if p, res, err = s.runAll(ctx, p); err == nil {
			m, lock, err = s.manifest(p, res)
		}
		if err == nil {
			kept, err = out.put(ctx, s.store, m.Build.Artifacts)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := out.drop(m.Build.Artifacts); err != nil {
		return nil, err
	}
	for name, aside := range kept {
		progress.Warn(s.Sink, fmt.Sprintf("%s had been written to since it was built; it is kept as %s", name, aside))
	}
	if err := out.write(LockFile, lock); err != nil {
		return nil, err
	}
	if err := s.forTools(ctx, p, out); err != nil {
		return nil, err
	}
	if m, err = out.writeManifest(m, p.Lock); err != nil {
		return nil, err
	}
	return m, s.sign(ctx, out)
}

// runAll runs the plan. What can be mended without the person is mended and run
// again: a toolchain whose packages are gone is resolved anew (which makes
// another plan), and what lay damaged in the store, and is no longer there, is
// made or fetched once more.
func (s *session) runAll(ctx context.Context, p *Plan) (*Plan, steps.Results, error) {
	for again := 0; ; again++ {
		res, err := s.runner().Get(ctx, p.Kernel, p.Image)
		var damaged *store.CorruptError
		switch {
		case again == maxAgain:
			return p, res, err
		case isMissing(err):
			if err = s.renewMissing(ctx, p, err); err != nil {
				return p, nil, err
			}
			p = s.plan(p.Lock)
		case errors.As(err, &damaged):
			progress.Warn(s.Sink, damaged.Error())
		default:
			return p, res, err
		}
	}
}

// maxAgain is how often a build is mended: once for each toolchain, and once for
// the store.
const maxAgain = 3

// prepare resolves and plans.
func (s *session) prepare(ctx context.Context) (*Plan, error) {
	if s.spec.Lock != "" {
		return s.replay(ctx)
	}
	if err := s.spec.Check(); err != nil {
		return nil, err
	}
	old, err := s.oldLock()
	if err != nil {
		return nil, err
	}
	lock, err := s.resolve(ctx, old)
	if err != nil {
		return nil, err
	}
	return s.plan(lock), nil
}

// means are the actions of a plan's artifacts.
func (p *Plan) means() MeansLock {
	return MeansLock{Kernel: p.Kernel.ActionID(), Image: p.Image.ActionID()}
}

// renewMissing resolves the toolchain anew that a failed step could not fetch. For
// the kernel's and the root filesystem's own packages the person decides, and for
// all where nothing may be resolved.
func (s *session) renewMissing(ctx context.Context, p *Plan, cause error) error {
	for _, t := range []*ToolchainLock{&p.Lock.Toolchain, &p.Lock.Imaging} {
		if !s.spec.Frozen && failedStep(cause) == toolchainID(*t) {
			return s.renew(ctx, t)
		}
	}
	return s.allMissing(ctx, p, cause)
}

// lockOut keeps two builds from writing one out directory at once.
func (s *session) lockOut(ctx context.Context) (func(), error) {
	abs, err := filepath.Abs(s.spec.Out)
	if err != nil {
		return nil, fmt.Errorf("lock out directory: %w", err)
	}
	file := filepath.Join(s.locks(), "out-"+units.DigestOf([]byte(abs)).Short())
	cache.Stamp(s.Cache, filepath.Base(file), abs) // keep knows by it what the directory needs
	unlock, err := filelock.Take(ctx, file, func() {
		progress.Say(s.Sink, "another kimg builds into "+s.spec.Out+": waiting for it to end")
	})
	if err != nil {
		return nil, fmt.Errorf("lock out directory: %w", err)
	}
	return unlock, nil
}

// Explain writes what Build would do, and why, and does none of it. It may ask
// the archive what there is, as Build would.
func Explain(ctx context.Context, env Env, spec Spec, w io.Writer) error {
	s, err := open(env, spec)
	if err != nil {
		return err
	}
	defer s.close()
	p, err := s.prepare(ctx)
	if err != nil {
		return err
	}
	return writePlan(w, p, s.runner().Explain(ctx, p.All, actions(spec.Out)))
}

func writePlan(w io.Writer, p *Plan, list []steps.Status) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", p.Lock.Toolchain.Why)
	for _, st := range list {
		do := "run "
		switch {
		case st.Cached:
			do = "have"
		case !st.Needed:
			do = "skip"
		}
		fmt.Fprintf(&b, "%s  %-18s %s  %s\n", do, st.Step.ID, st.Step.ActionID().Short(), st.Step.Title)
		for _, why := range st.Why {
			fmt.Fprintf(&b, "      %s\n", why)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// manifest tells of a build that is done, and writes its lock, which it names.
func (s *session) manifest(p *Plan, res steps.Results) (m *Manifest, lock []byte, err error) {
	p.Lock.Means = p.means()
	if lock, err = p.Lock.Marshal(); err != nil {
		return nil, nil, err
	}
	m = &Manifest{Version: manifestVersion, Build: p.facts(res), Run: RunFacts{Kimg: version.String(), Mirror: s.mirror, Privileged: s.spec.Privileged}}
	m.Build.Lock = units.DigestOf(lock)
	if s.eng != nil {
		i := s.eng.Info()
		m.Run.Engine = i.Name + " " + i.Version
	}
	if s.tree != nil && (s.tree.Kind == kernel.Directory || s.tree.Kind == kernel.Tarball) {
		m.Run.Source, m.Run.Git = s.tree.Path, s.gitState()
	}
	return m, lock, nil
}
