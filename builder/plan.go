package builder

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/kimg/kimg/builder/toolchain"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/image"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/cache"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/steps"
	"github.com/kimg/kimg/internal/units"
)

// Plan is the Lock unfolded into Steps. What the steps are, what they read and
// how they are named follows from the Lock alone; only how they run knows the
// session.
//
//	toolchain-T  source        toolchain-imaging  packages
//	        \     |                      |   \      |
//	         kernel                      |    rootfs
//	                                      \    |
//	                                       image
type Plan struct {
	Lock          *Lock
	Kernel, Image *steps.Step
	All           []*steps.Step // each after those it reads from
}

// The steps' versions: raised when what a step does to the same inputs changes.
const (
	kernelVersion = "2"
	rootfsVersion = "1"
	imageVersion  = "1"
)

func (s *session) plan(l *Lock) *Plan {
	tool := s.toolchainStep(&l.Toolchain)
	imaging := s.toolchainStep(&l.Imaging)
	packages := s.packagesStep(l)
	rootfs := s.rootfsStep(l, imaging, packages)
	p := &Plan{Lock: l}
	p.Kernel, p.All = s.kernelSteps(l, tool)
	var modules *steps.Step
	if config, err := s.config(l.Config); err == nil && config.Modules() {
		modules = p.Kernel
	}
	p.Image = s.imageStep(l, imaging, rootfs, modules)
	p.All = append(p.All, imaging, packages, rootfs, p.Image)
	return p
}

// toolchainID is the name of the step that makes a toolchain's image.
func toolchainID(t ToolchainLock) string { return "toolchain-" + string(t.Target) }

// toolchainStep makes an image in the engine. The image's name holds the hash of
// all that is in it.
func (s *session) toolchainStep(t *ToolchainLock) *steps.Step {
	return &steps.Step{
		ID:    toolchainID(*t),
		Title: "make the toolchain image " + t.Image,
		Reads: []steps.Fact{{Name: "image", Value: t.Image}},
		Ready: func(ctx context.Context) (bool, error) {
			eng, err := s.engine(ctx)
			if err != nil {
				return false, err
			}
			_, ok, err := eng.ImageID(ctx, t.Image)
			cache.Stamp(s.Cache, t.Image, "")
			return ok, err
		},
		Run: func(ctx context.Context, _ steps.Results, _ *steps.Outputs, task *progress.Task) error {
			eng, err := s.engine(ctx)
			if err != nil {
				return err
			}
			ac, err := s.archive(t.Lock.Suite, t.Lock.Date)
			if err != nil {
				return err
			}
			_, err = toolchain.Maker{Engine: eng, Archive: ac, Locks: s.locks(), Task: task}.Ensure(ctx, t.Lock)
			return err
		},
	}
}

func (s *session) packagesStep(l *Lock) *steps.Step {
	list := l.Rootfs.Packages()
	return &steps.Step{
		ID:    "packages",
		Title: fmt.Sprintf("fetch %d packages of %s", len(list), l.Rootfs.Suite),
		Reads: []steps.Fact{{Name: "packages", Value: packageDigest(list).Short()}},
		Ready: func(context.Context) (bool, error) { return s.haveAll(list), nil },
		Run: func(ctx context.Context, _ steps.Results, _ *steps.Outputs, task *progress.Task) error {
			return s.fetch(ctx, l.Rootfs.Archive, list, task)
		},
	}
}

func (s *session) haveAll(list []archive.Locked) bool {
	for _, p := range list {
		if !s.store.Has(p.SHA256) {
			return false
		}
	}
	return true
}

// fetch brings packages of a locked archive into the store.
func (s *session) fetch(ctx context.Context, from ArchiveLock, list []archive.Locked, task *progress.Task) error {
	suite, err := archive.ParseSuite(from.Suite)
	if err != nil {
		return err
	}
	ac, err := s.archive(suite, from.Date)
	if err != nil {
		return err
	}
	return ac.Fetch(ctx, suite, list, from.Date, func(n, total int64) { task.Add(n, total, "bytes") })
}

func packageDigest(list []archive.Locked) units.Digest {
	var b strings.Builder
	for _, p := range list {
		fmt.Fprintln(&b, p.Name, p.Version, p.SHA256)
	}
	return units.DigestOf([]byte(b.String()))
}

// rootfsTar is the name of the root filesystem's tar among its step's outputs.
const rootfsTar = "rootfs.tar"

func (s *session) rootfsStep(l *Lock, imaging, packages *steps.Step) *steps.Step {
	suite, serr := archive.ParseSuite(l.Rootfs.Suite)
	return &steps.Step{
		ID:    "rootfs",
		Title: fmt.Sprintf("bootstrap %s (%s)", l.Rootfs.Suite, l.Rootfs.Variant),
		Reads: []steps.Fact{
			{Name: "version", Value: rootfsVersion},
			{Name: "suite", Value: l.Rootfs.Suite},
			{Name: "variant", Value: string(l.Rootfs.Variant)},
			{Name: "required", Value: packageDigest(l.Rootfs.Required).Short()},
			{Name: "base", Value: packageDigest(l.Rootfs.Base).Short()},
			{Name: "epoch", Value: strconv.FormatInt(l.Rootfs.Epoch, 10)},
			{Name: "recipe", Value: image.RootfsRecipe(suite).Short()},
		},
		After: []*steps.Step{imaging, packages},
		Run: func(ctx context.Context, _ steps.Results, out *steps.Outputs, task *progress.Task) error {
			eng, id, err := s.image(ctx, l.Imaging)
			if err != nil {
				return err
			}
			if serr != nil {
				return serr
			}
			w, err := out.Create(rootfsTar, 0o644)
			if err != nil {
				return err
			}
			defer w.Abort()
			spec := image.RootfsSpec{
				Suite: suite, Variant: l.Rootfs.Variant,
				Required: l.Rootfs.Required, Base: l.Rootfs.Base,
				Epoch: time.Unix(l.Rootfs.Epoch, 0).UTC(), Privileged: s.spec.Privileged,
			}
			if err := image.Bootstrap(ctx, eng, id, s.store, spec, w, task); err != nil {
				return err
			}
			return w.Commit()
		},
	}
}

// imageStep reads the kernel's step only where that makes modules: else another
// kernel would make another image, and the two branches would not run side by side.
func (s *session) imageStep(l *Lock, imaging, rootfs, modules *steps.Step) *steps.Step {
	after := []*steps.Step{imaging, rootfs}
	if modules != nil {
		after = append(after, modules)
	}
	suite, err := archive.ParseSuite(l.Rootfs.Suite)
	features := image.Features(suite, l.Kernel.Version)
	return &steps.Step{
		ID:    "image",
		Title: fmt.Sprintf("make the ext4 image of %s", l.Image.Size),
		Reads: []steps.Fact{
			{Name: "version", Value: imageVersion},
			{Name: "size", Value: l.Image.Size.String()},
			{Name: "uuid", Value: l.Image.UUID.String()},
			{Name: "hash-seed", Value: l.Image.HashSeed.String()},
			{Name: "epoch", Value: strconv.FormatInt(l.Rootfs.Epoch, 10)},
			{Name: "features", Value: strings.Join(features, ",")},
			{Name: "recipe", Value: image.DiskRecipe().Short()},
		},
		After: after,
		Run: func(ctx context.Context, in steps.Results, out *steps.Outputs, task *progress.Task) error {
			if err != nil {
				return err
			}
			return s.makeImage(ctx, l, suite, features, in, out, task)
		},
	}
}

// image returns the engine and the id of a toolchain image that is there.
func (s *session) image(ctx context.Context, t ToolchainLock) (eng container.Engine, id string, err error) {
	if eng, err = s.engine(ctx); err != nil {
		return nil, "", err
	}
	id, ok, err := eng.ImageID(ctx, t.Image)
	if err != nil {
		return nil, "", err
	}
	if !ok {
		return nil, "", fmt.Errorf("image %s is gone", t.Image)
	}
	return eng, id, nil
}

// failedStep is the step that an error of the runner came from.
func failedStep(err error) string {
	var se *steps.StepError
	if errors.As(err, &se) {
		return se.Step
	}
	return ""
}
