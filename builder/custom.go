package builder

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/image"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/steps"
)

// OverlayError is an overlay that a lock pins and that is not to be had.
type OverlayError struct{ Name, Why string }

func (e *OverlayError) Error() string { return fmt.Sprintf("overlay %s: %s", e.Name, e.Why) }

// Hint says who has it.
func (e *OverlayError) Hint() string {
	return "a lock has an overlay's digest alone: name the directory or tar that it was made of with --overlay, " +
		"all of them where there are more"
}

// custom pins what is wanted otherwise in the root filesystem: overlays are packed into the store.
func (r *resolver) custom(ctx context.Context) (spec.Custom, error) {
	c := r.q.Custom
	c.Overlays = slices.Clone(c.Overlays)
	for i := range c.Overlays {
		o := &c.Overlays[i]
		if o.From == "" && (r.store.Has(o.SHA256) || r.pinsOnly && o.SHA256 != "") {
			continue
		}
		if o.From == "" {
			return c, &OverlayError{o.Path, "it is not in the store, where the build put it"}
		}
		w, err := r.store.Create()
		if err != nil {
			return c, err
		}
		defer w.Abort()
		if err := image.PackOverlay(ctx, o.From, r.q.Size.Most(), w); err != nil {
			return c, &spec.InputError{Field: "overlay", Err: err}
		}
		d, _, err := w.Commit()
		if err != nil {
			return c, err
		}
		if o.SHA256 != "" && o.SHA256 != d {
			return c, &OverlayError{o.Path, fmt.Sprintf("%s is another one than the lock pins (%s, not %s)", o.From,
				d.Short(), o.SHA256.Short())}
		}
		o.SHA256, o.From = d, ""
	}
	return c, nil
}

// planCustom is the step that changes the bootstrapped tree; nil: nothing is wanted. It has a key of its own, so that
// another file does not bootstrap anew.
func planCustom(l *spec.Lock, imaging, rootfs *Step) *Step {
	if !l.Custom.Any() {
		return nil
	}
	s := &Step{
		ID:    customStep,
		Title: "lay over the tree: " + l.Custom.Summary(),
		Reads: []steps.Fact{
			{Name: "version", Value: image.CustomVersion},
			steps.DigestFact("custom", l.Custom.Digest(), ""),
			{Name: "epoch", Value: fmt.Sprint(l.Rootfs.Epoch)},
		},
		After: []*Step{rootfs},
	}
	if l.Custom.Inside() {
		s.Title = "change the tree: " + l.Custom.Summary()
		s.Reads = append(s.Reads, steps.DigestFact("inputs", image.InsideInputs(), ""))
		s.After = append(s.After, imaging)
	}
	return s
}

func (r *run) customise(
	ctx context.Context, l *spec.Lock, in steps.Results, out *steps.Outputs, task *progress.Task,
) error {
	tree, err := r.treeOf(in, rootfsStep)
	if err != nil {
		return err
	}
	w, err := out.Create(rootfsTar, 0o644)
	if err != nil {
		return err
	}
	defer w.Abort()
	want := image.CustomSpec{Custom: l.Custom, Epoch: time.Unix(l.Rootfs.Epoch, 0).UTC(), Size: l.Image.Size.Bytes(),
		Arch: l.Arch, Privileged: r.privileged}
	maker := image.Maker{Log: task.Log(), Warn: task.Warn, Emulation: r.env.Emulation,
		Emulated: tellEmulated(l.Arch, task, out)}
	if l.Custom.Inside() {
		if maker.Engine, maker.Imaging, err = r.image(ctx, l.Imaging); err != nil {
			return err
		}
	}
	if err := maker.Customise(ctx, want, tree, r.store, w); err != nil {
		return err
	}
	return w.Commit()
}
