package builder

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/image"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/steps"
	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
)

// Step is one step of a Plan: what it reads, and what comes before it.
type Step = steps.Step

// Plan is the Lock unfolded into Steps. It is a function of the Lock alone: the same Lock gives the same Plan on
// every machine, and what a step does is bound to it only when it runs. Where the kernel has modules, the
// image comes after it, too.
//
//	toolchain-T  source        toolchain-imaging  packages
//	        \     |                      |   \      |
//	         kernel                      |    rootfs
//	                                     |     |
//	                                     |  [custom]
//	                                      \    |
//	                                       image
type Plan struct {
	Lock          *spec.Lock
	Kernel, Image *Step   // those that make the artifacts
	All           []*Step // each after those it reads from
}

// The names of steps. That of a toolchain is toolchainID.
const (
	sourceStep   = "source"
	kernelStep   = "kernel"
	packagesStep = "packages"
	rootfsStep   = "rootfs"
	customStep   = "custom"
	imageStep    = "image"
)

func toolchainID(t spec.ToolchainLock) string { return "toolchain-" + string(t.Target) }

// NewPlan unfolds a lock. It fails where something in it cannot be read: a line of a fragment, or a suite.
func NewPlan(l *spec.Lock) (*Plan, error) {
	p := &Plan{Lock: l}
	config, err := p.planKernel()
	if err != nil {
		return nil, err
	}
	of, err := suite.Parse(l.Rootfs.Suite)
	if err != nil {
		return nil, err
	}
	imaging := toolchainStep(l.Imaging)
	all := l.Rootfs.Packages()
	packages := &Step{
		ID:    packagesStep,
		Title: fmt.Sprintf("fetch %d packages of %s", len(all), l.Rootfs.Suite),
		Reads: []steps.Fact{steps.DigestFact("packages", packageDigest(all), "")},
	}
	rootfs := planRootfs(l, of, imaging, packages)
	made := []*Step{imaging, packages, rootfs}
	after := []*Step{imaging, rootfs}
	if custom := planCustom(l, imaging, rootfs); custom != nil {
		made, after = append(made, custom), []*Step{imaging, custom}
	}
	// The image reads the kernel's step only where that makes modules: else another
	// kernel would make another image, and the two branches would not run side by side.
	if config.Modules() {
		after = append(after, p.Kernel)
	}
	p.Image = planImage(l, of, after)
	p.All = append(append(p.All, made...), p.Image)
	return p, nil
}

func (p *Plan) actions() spec.ActionsLock {
	return spec.ActionsLock{Kernel: p.Kernel.ActionID(), Image: p.Image.ActionID()}
}

func toolchainStep(t spec.ToolchainLock) *Step {
	d := t.Lock.Digest()
	return &Step{
		ID:    toolchainID(t),
		Title: fmt.Sprintf("make the toolchain image %s (%s)", t.Target, d.Short()),
		Reads: []steps.Fact{{Name: "image", Value: t.Image + " " + string(d), Shown: d.Short()}},
	}
}

// otherArch has titles name an architecture that is not the default.
func otherArch(l *spec.Lock) string {
	if l.Arch == arch.Default {
		return ""
	}
	return ", " + l.Arch.Name
}

func (p *Plan) planKernel() (kernel.Config, error) {
	l := p.Lock
	config, err := l.KernelConfig()
	if err != nil {
		return config, &spec.InputError{Field: "config", Err: err}
	}
	tree := &kernel.Tree{Version: l.Kernel.Version}
	job := kernel.Job{Arch: l.Arch, Config: config, Targets: l.Kernel.Targets, Tree: tree}
	after := []*Step{toolchainStep(l.Toolchain)}
	if pkg := l.Kernel.Package; pkg != nil {
		after = append(after, &Step{
			ID:    sourceStep,
			Title: fmt.Sprintf("fetch %s %s", pkg.Name, pkg.Version),
			Reads: []steps.Fact{steps.DigestFact("package", pkg.SHA256, "")},
		})
	}
	p.Kernel = &Step{
		ID: kernelStep,
		Title: fmt.Sprintf("compile Linux %s (%s, %s%s)", l.Kernel.Version, l.Config.Base, l.Toolchain.Compiler,
			otherArch(l)),
		Reads: []steps.Fact{
			{Name: "version", Value: kernel.StepVersion},
			{Name: "arch", Value: l.Arch.Name},
			steps.DigestFact("source", l.Kernel.SHA256, l.Kernel.Source),
			configFact(l, config),
			{Name: "compiler", Value: l.Toolchain.Compiler},
			{Name: "epoch", Value: strconv.FormatInt(l.Kernel.Epoch, 10)},
			steps.DigestFact("inputs", job.Inputs(), ""),
		},
		After: after,
	}
	reads := func(f steps.Fact) { p.Kernel.Reads = append(p.Kernel.Reads, f) }
	if fixes := l.Kernel.KimgFixes(l.Toolchain.Request); len(fixes) > 0 {
		reads(fixesFact(fixes))
	}
	if list := l.Kernel.Patches; len(list) > 0 {
		d := spec.PatchDigest(list)
		reads(steps.Fact{Name: "patches", Value: string(d), Shown: d.Short() + " " + spec.PatchNames(list)})
	}
	if len(l.Kernel.Targets) > 0 {
		reads(steps.Fact{Name: "targets", Value: strings.Join(l.Kernel.Targets, " ")})
	}
	p.All = append(slices.Clone(after), p.Kernel)
	return config, nil
}

// configFact is the configuration: what the user wrote is shown, and all that is behind it is hashed.
func configFact(l *spec.Lock, c kernel.Config) steps.Fact {
	d := c.Inputs(l.Kernel.Version)
	shown := append([]string{l.Config.Base, d.Short()}, l.Config.Set...)
	return steps.Fact{Name: "config", Value: string(d), Shown: strings.Join(shown, " ")}
}

func fixesFact(list []kernel.Patch) steps.Fact {
	var all, names strings.Builder
	for _, p := range list {
		fmt.Fprintf(&all, "%q %+q\n", p.Text, fmt.Sprint(p.Fix.Needs))
		names.WriteString(" " + p.Name)
	}
	d := units.DigestOf([]byte(all.String()))
	return steps.Fact{Name: "fixes", Value: string(d), Shown: d.Short() + names.String()}
}

func packageDigest(list []archive.Locked) units.Digest {
	var b strings.Builder
	for _, p := range list {
		fmt.Fprintln(&b, p.Name, p.Version, p.SHA256)
	}
	return units.DigestOf([]byte(b.String()))
}

func planRootfs(l *spec.Lock, of suite.Suite, imaging, packages *Step) *Step {
	s := &Step{
		ID:    rootfsStep,
		Title: fmt.Sprintf("bootstrap %s (%s%s)", l.Rootfs.Suite, l.Rootfs.Variant, otherArch(l)),
		Reads: []steps.Fact{
			{Name: "version", Value: image.RootfsVersion},
			{Name: "arch", Value: l.Arch.Name},
			{Name: "suite", Value: l.Rootfs.Suite},
			{Name: "variant", Value: string(l.Rootfs.Variant)},
			steps.DigestFact("required", packageDigest(l.Rootfs.Required), ""),
			steps.DigestFact("base", packageDigest(l.Rootfs.Base), ""),
			{Name: "epoch", Value: strconv.FormatInt(l.Rootfs.Epoch, 10)},
			steps.DigestFact("inputs", image.RootfsInputs(of, l.Arch), ""),
		},
		After: []*Step{imaging, packages},
	}
	if list := l.Rootfs.Components; len(list) > 0 { // the guest's apt has them
		s.Reads = append(s.Reads, steps.Fact{Name: "components", Value: strings.Join(list, " ")})
	}
	return s
}

func imageTitle(l *spec.Lock) string {
	f := l.Image.Form
	switch {
	case !f.OnDisk():
		return "make the " + f.String()
	case !f.Sized():
		return fmt.Sprintf("make the %s image", f)
	case l.Image.Size == spec.Smallest:
		return fmt.Sprintf("make the smallest %s image", f)
	}
	return fmt.Sprintf("make the %s image of %s", f, l.Image.Size)
}

func planImage(l *spec.Lock, of suite.Suite, after []*Step) *Step {
	step := &Step{ID: imageStep, Title: imageTitle(l), After: after, Reads: []steps.Fact{
		{Name: "version", Value: image.DiskVersion},
		{Name: "arch", Value: l.Arch.Name},
		{Name: "size", Value: l.Image.Size.String()},
		{Name: "uuid", Value: l.Image.UUID.String()},
		{Name: "hash-seed", Value: l.Image.HashSeed.String()},
		{Name: "epoch", Value: strconv.FormatInt(l.Rootfs.Epoch, 10)},
		{Name: "features", Value: strings.Join(image.Features(of, l.Kernel.Version), ",")},
		steps.DigestFact("inputs", image.DiskInputs(l.Arch), ""),
	}}
	if f := l.Image.Form; f != "" {
		step.Reads = []steps.Fact{
			{Name: "form", Value: f.String() + " " + image.FormVersion, Shown: f.String()},
			{Name: "arch", Value: l.Arch.Name},
			{Name: "size", Value: l.Image.Size.String()},
			{Name: "uuid", Value: l.Image.UUID.String()},
			{Name: "epoch", Value: strconv.FormatInt(l.Rootfs.Epoch, 10)},
			steps.DigestFact("inputs", image.FormInputs(f, l.Arch), ""),
		}
	}
	return step
}
