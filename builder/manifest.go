package builder

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/kimg/kimg/builder/outdir"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/image"
	"github.com/kimg/kimg/internal/steps"
	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
	"github.com/kimg/kimg/internal/version"
)

// manifest describes a build that is done, and writes its lock, whose digest it has.
func (r *run) manifest(p *Plan, res steps.Results) (m *outdir.Manifest, lock []byte, err error) {
	p.Lock.Actions = p.actions()
	if lock, err = p.Lock.Marshal(); err != nil {
		return nil, nil, err
	}
	m = outdir.NewManifest(p.fields(res), outdir.RunFacts{Kimg: version.String(), Privileged: r.privileged})
	m.Build.Lock = units.DigestOf(lock)
	if of, err := suite.Parse(p.Lock.Rootfs.Suite); err == nil {
		if mirror, err := r.mirror(of, time.Unix(p.Lock.Rootfs.Epoch, 0)); err == nil {
			m.Run.Mirror = mirror.URL
		}
	}
	if r.eng != nil {
		i := r.eng.Info()
		m.Run.Engine = i.Name + " " + i.Version
	}
	if r.local != nil {
		m.Run.Source, m.Run.Git = r.local.Path, r.gitState()
	}
	return m, lock, nil
}

func (p *Plan) fields(res steps.Results) outdir.BuildFacts {
	l := p.Lock
	f := outdir.BuildFacts{
		Kernel: l.Kernel.Version.String(), Suite: l.Rootfs.Suite, Config: l.Config.Base, Epoch: l.Rootfs.Epoch,
		Toolchain: outdir.NewToolchain(l.Toolchain), Imaging: outdir.NewToolchain(l.Imaging),
		Inputs: outdir.Inputs(l),
	}
	for _, s := range p.All {
		step := outdir.StepFact{ID: s.ID, Action: s.ActionID(), Allowed: allowed(l, s.ID)}
		if rec, ok := res[s.ID]; ok {
			step.Output = rec.OutputID()
			for _, o := range rec.Outputs {
				a := outdir.Artifact{Path: o.Name, Size: o.Size, SHA256: o.Digest, Mode: o.Mode, Step: s.ID}
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
	case rootfsStep:
		var caps []string
		for _, c := range image.BootstrapCaps {
			caps = append(caps, c.Name)
		}
		return "user 0, no network, no new privileges, capabilities " + strings.Join(caps, " ")
	}
	return "user 1000, no network, no new privileges, no capabilities"
}
