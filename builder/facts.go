package builder

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kimg/kimg/builder/attest"
	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/image"
	"github.com/kimg/kimg/internal/steps"
)

// facts is the part of the manifest that follows from the Lock and from what the
// steps made.
func (p *Plan) facts(res steps.Results) BuildFacts {
	l := p.Lock
	f := BuildFacts{
		Kernel: l.Kernel.Version.String(), Suite: l.Rootfs.Suite, Config: l.Config.Base, Epoch: l.Rootfs.Epoch,
		Toolchain: toolchainFact(l.Toolchain), Imaging: toolchainFact(l.Imaging),
		Inputs: l.inputs(),
	}
	for _, s := range p.All {
		fact := StepFact{ID: s.ID, Action: s.ActionID(), Allowed: allowed(s.ID)}
		if rec, ok := res[s.ID]; ok {
			fact.Output = rec.OutputID()
			for _, o := range rec.Outputs {
				f.Artifacts = append(f.Artifacts, Artifact{Path: o.Name, Size: o.Size, SHA256: o.Digest, Mode: o.Mode, Step: s.ID})
			}
		}
		f.Steps = append(f.Steps, fact)
	}
	slices.SortFunc(f.Artifacts, func(a, b Artifact) int { return cmp.Compare(a.Path, b.Path) })
	return f
}

func toolchainFact(t ToolchainLock) Toolchain {
	return Toolchain{Image: t.Image, Lock: t.Lock.Digest(), Origin: t.Origin, Compiler: t.Compiler, Why: t.Why}
}

// allowed says in words what a step's containers were given.
func allowed(step string) string {
	switch {
	case step == "source" || step == "packages":
		return "no container; the network, as the person who ran kimg"
	case strings.HasPrefix(step, "toolchain-"):
		return "the engine's image builder: its default capabilities, no network"
	case step == "rootfs":
		var caps []string
		for _, c := range image.BootstrapCaps {
			caps = append(caps, c.Name)
		}
		return "user 0, no network, no new privileges, capabilities " + strings.Join(caps, " ")
	}
	return "user 1000, no network, no new privileges, no capabilities"
}

// name is the source without the directory that it is in: where a person keeps
// it is not what it is.
func (l KernelLock) name() string {
	if l.local() {
		return filepath.Base(l.Request)
	}
	return l.Request
}

// local says that the source is a directory or tarball of the person's own.
func (l KernelLock) local() bool {
	return l.Source == string(kernel.Directory) || l.Source == string(kernel.Tarball)
}

// inputs are the outside things that a lock names.
func (l *Lock) inputs() []Input {
	var in []Input
	for _, m := range l.materials() {
		i := Input{Kind: string(m.Kind), Name: m.Name, Version: m.Version, SHA256: m.Digest, For: m.For}
		if m.Kind == attest.Kernel {
			i.SignedBy, i.Unsigned = m.SignedBy, m.Unsigned
			if d := l.Kernel.Download; d != nil {
				i.Name = d.URL
			}
		}
		in = append(in, i)
	}
	return in
}
