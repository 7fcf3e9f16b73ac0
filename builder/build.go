// Package builder builds kernels and the root filesystems that they boot. Begin with
// [Build], which makes what a [spec.Spec] asks for and puts it into a directory:
//
//	sp := spec.Default()
//	sp.Kernel, sp.Suite = "4.20.6", "bionic"
//	manifest, err := builder.Build(ctx, builder.Env{}, sp)
//
// [Explain] says what Build would do, [Rebuild] does it again and compares, [Export]
// hands the artifacts on. Below them, [Resolve] turns what is wanted into a lock, the
// only part that asks the outside world; [NewPlan] unfolds a lock into steps, and is a
// function of the lock alone; a run binds the plan to an engine and a store.
//
// The kernel's part is in builder/kernel, the images that things run in are made by
// builder/toolchain, what is wanted and pinned is builder/spec, what a build leaves is
// builder/outdir, and the root filesystem's part is package image.
package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/kimg/kimg/builder/outdir"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/image"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/decode"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/steps"
	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
	"github.com/kimg/kimg/internal/version"
)

// Build makes what the Spec asks for and puts it into the Spec's out directory.
func Build(ctx context.Context, env Env, sp spec.Spec) (_ *outdir.Manifest, err error) {
	w, err := want(sp)
	if err != nil {
		return nil, err
	}
	t, done, err := openLocked(ctx, env, w.from, w.q.Suite, sp.Out)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	out, err := t.outDir(sp.Out)
	if err != nil {
		return nil, err
	}
	if err := out.Ready(); err != nil {
		return nil, err
	}
	if err := out.Guard(artifact.TopLevel(w.q.Arch)); err != nil { // Put does so for the rest, when it is known
		return nil, err
	}
	r := &run{tools: t, jobs: sp.Jobs, privileged: sp.Privileged, kernel: w.q.Kernel}
	if err := r.engineFirst(ctx); err != nil {
		return nil, err
	}
	p, err := r.prepare(ctx, w, sp.Out)
	if err != nil {
		return nil, err
	}
	progress.Say(t.env.Sink, p.Lock.Toolchain.Why)
	var m *outdir.Manifest
	err = r.all(ctx, p, w.file, func(ran *Plan, res steps.Results) error {
		p = ran
		m, err = r.leave(ctx, ran, res, out)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := r.devFiles(ctx, p, out, sp.ExportSource); err != nil {
		return nil, err
	}
	if m, err = out.WriteManifest(m, p.Lock); err != nil {
		return nil, err
	}
	return m, out.Sign(ctx, t.env.Sign, t.env.Sink)
}

// leave puts what a plan made into the out directory, and its lock.
func (r *run) leave(ctx context.Context, p *Plan, res steps.Results, out *outdir.Dir) (*outdir.Manifest, error) {
	m, lock, err := r.manifest(p, res)
	if err != nil {
		return nil, err
	}
	kept, err := out.Put(ctx, r.store, m.Build.Artifacts)
	for name, aside := range kept {
		progress.Warn(r.env.Sink, fmt.Sprintf("%s had been changed since it was built; it is kept as %s", name, aside))
	}
	if err != nil {
		return nil, err
	}
	if err := out.Drop(m.Build.Artifacts); err != nil {
		return nil, err
	}
	return m, out.Write(artifact.Lock, lock)
}

// Explain writes what Build would do, and why, and does none of it. It may ask the archive, as Build would.
func Explain(ctx context.Context, env Env, sp spec.Spec, to io.Writer) error {
	w, err := want(sp)
	if err != nil {
		return err
	}
	t, err := openTools(env, w.from, w.q.Suite)
	if err != nil {
		return err
	}
	defer t.close()
	r := &run{tools: t, kernel: w.q.Kernel}
	p, err := r.prepare(ctx, w, sp.Out)
	if err != nil {
		return err
	}
	return writePlan(to, p, t.runner(r.work(p)).Explain(ctx, p.All, outdir.Actions(sp.Out)))
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

// Sign signs the build in a directory with the environment's key, without building. What is not as its build left
// it is not signed: the faults are in what is returned, and nothing is written.
func Sign(ctx context.Context, env Env, dir string) (_ *outdir.Verified, err error) {
	t, done, err := openLocked(ctx, env, spec.Sources{}, spec.Default().Suite, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	out, err := t.outDir(dir)
	if err != nil {
		return nil, err
	}
	return out.SignUnchanged(ctx, env.Sign, env.Sink)
}

// manifest describes a build that is done, and writes its lock, whose digest it has.
func (r *run) manifest(p *Plan, res steps.Results) (m *outdir.Manifest, lock []byte, err error) {
	p.Lock.Actions = p.actions()
	r.named(&p.Lock.Kernel, res)
	if lock, err = p.Lock.Marshal(); err != nil {
		return nil, nil, err
	}
	m = outdir.NewManifest(p.fields(res), outdir.RunFacts{Kimg: version.String(), Privileged: r.privileged})
	m.Build.Lock = units.DigestOf(lock)
	if of, err := suite.Parse(p.Lock.Rootfs.Suite); err == nil {
		if mirror, err := r.mirror(of, p.Lock.Arch, time.Unix(p.Lock.Rootfs.Epoch, 0)); err == nil {
			m.Run.Mirror = mirror.URL
		}
	}
	if r.eng != nil {
		i := r.eng.Info()
		m.Run.Engine, m.Run.Rights, m.Run.Users = i.Name+" "+i.Version, i.Rights(), i.Users()
		if i.Arch != "" && i.Arch != arch.Default.OCI {
			m.Run.Engine += " on " + i.Arch
		}
	}
	var emulated []string
	for _, s := range p.All {
		if s.ID == rootfsStep || s.ID == customStep {
			made, _ := r.runner(nil).Cache.Load(s.ActionID()) // in this run or in an earlier one
			emulated = append(emulated, made.Notes...)
		}
	}
	slices.Sort(emulated)
	m.Run.Emulated = strings.Join(slices.Compact(emulated), "; ")
	if r.local != nil {
		m.Run.Source, m.Run.Git = r.local.Path, r.gitState()
	}
	return m, lock, nil
}

// named notes what a kernel calls itself. Its own words are asked: a part may be computed by its Makefile, be in the
// tree's localversion files, in a patch or in LOCALVERSION, and a package's version need not be the tree's.
func (r *run) named(k *spec.KernelLock, res steps.Results) {
	k.Release = ""
	vmlinux, ok := res[kernelStep].Find(artifact.Vmlinux)
	if !ok {
		return
	}
	release := decode.ReleaseOf(r.store.Path(vmlinux.Digest))
	if release == "" || release == k.Version.String() {
		return
	}
	k.Release = release
	if v, err := units.ParseKernelVersion(release); err != nil || v != k.Version { // 6.12.0 is no other than 6.12
		progress.Say(r.env.Sink, fmt.Sprintf("Linux %s calls itself %s (uname -r)", k.Version, release))
	}
}

func (p *Plan) fields(res steps.Results) outdir.BuildFacts {
	l := p.Lock
	f := outdir.BuildFacts{
		Kernel: l.Kernel.Called(), Suite: l.Rootfs.Suite, Config: l.Config.Base, Epoch: l.Rootfs.Epoch,
		Toolchain: outdir.NewToolchain(l.Toolchain), Imaging: outdir.NewToolchain(l.Imaging),
		Inputs: outdir.Inputs(l),
	}
	if l.Arch != arch.Default {
		f.Arch = l.Arch.Name
	}
	for _, s := range p.All {
		step := outdir.StepFact{ID: s.ID, Action: s.ActionID(), Allowed: allowed(l, s.ID)}
		if rec, ok := res[s.ID]; ok {
			step.Output = rec.OutputID()
			for _, o := range rec.Outputs {
				a := outdir.Artifact{Path: o.Name, Size: o.Size, SHA256: o.Digest, Mode: o.Mode, Step: s.ID}
				if s.ID == imageStep {
					a.Varies = image.Irreproducible(l.Image.Form)
				}
				f.Artifacts = append(f.Artifacts, a)
			}
		}
		f.Steps = append(f.Steps, step)
	}
	slices.SortFunc(f.Artifacts, func(a, b outdir.Artifact) int { return cmp.Compare(a.Path, b.Path) })
	return f
}

func allowed(l *spec.Lock, step string) string {
	switch step {
	case sourceStep, packagesStep:
		return "no container; the network, as the user who ran kimg"
	case toolchainID(l.Toolchain), toolchainID(l.Imaging):
		return "the engine's image builder: its default capabilities, no network"
	case customStep:
		if !l.Custom.Inside() {
			return "no container; files of the tree are rewritten, as the user who ran kimg"
		}
		fallthrough
	case rootfsStep:
		names := func(caps []image.Capability) string {
			var all []string
			for _, c := range caps {
				all = append(all, c.Name)
			}
			return strings.Join(all, " ")
		}
		own := "user 0, no network, no new privileges, capabilities " + names(image.BootstrapCaps)
		if l.Arch != arch.Default {
			own += "; its first program, which starts the emulation, also " + names(image.EmulationCaps) +
				", and user namespaces of its own, and mounts in them"
		}
		return own
	}
	return "user 1000, no network, no new privileges, no capabilities"
}
