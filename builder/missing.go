package builder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/builder/toolchain"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/steps"
)

// MissingError reports all that a lock pins and that can no longer be had, so that it is not found out run by run.
type MissingError struct {
	Parts []MissingPart
	from  string // how the lock is spelled on a command line
}

// MissingPart is a part of a lock of which something cannot be had.
type MissingPart struct {
	Part string // of spec.Parts
	What string // for users
	Err  error  // names each thing, and where it was looked for
}

func (e *MissingError) Error() string {
	var b strings.Builder
	b.WriteString("what the lock pins can no longer be had:")
	for _, p := range e.Parts {
		text := strings.ReplaceAll(p.Err.Error(), "\n", "\n  ")
		fmt.Fprintf(&b, "\n  %s: %s", p.What, text)
	}
	return b.String()
}

// Unwrap gives the parts' errors.
func (e *MissingError) Unwrap() (all []error) {
	for _, p := range e.Parts {
		all = append(all, p.Err)
	}
	return all
}

// Hint says where it may be had, or how to go without.
func (e *MissingError) Hint() string {
	var parts []string
	packages, kernel, others := false, false, ""
	for _, p := range e.Parts {
		if !slices.Contains(parts, p.Part) {
			parts = append(parts, p.Part)
		}
		var gone *archive.MissingError
		switch isPackage := errors.As(p.Err, &gone); {
		case isPackage && gone.Snapshot == "": // of another archive, and all others are there
			others = gone.Hint()
		case isPackage:
			packages = true
		default:
			kernel = true
		}
	}
	var ways []string
	if packages {
		ways = append(ways, "name a mirror that has the packages with --mirror, "+
			"or a snapshot service with KIMG_SNAPSHOT")
	}
	if kernel {
		ways = append(ways, "name a mirror that has the kernel with --kernel-mirror")
	}
	if !packages && !kernel {
		return others
	}
	ways = append(ways, "have other ones pinned with kimg lock update"+e.from+" "+strings.Join(parts, " "))
	return strings.Join(ways, "; or ")
}

// allMissing makes of an error about something that is gone one about all that is gone. What is there comes into the
// store on the way. Toolchains count only where they may not be resolved anew.
func (r *run) allMissing(ctx context.Context, p *Plan, lockFile string, cause error) error {
	missing := &MissingError{}
	if lockFile != "" {
		missing.from = " --lock " + lockFile
	}
	var gone *archive.MissingError
	if !errors.As(cause, &gone) { // of the kernel's download, which no step is
		missing.Parts = append(missing.Parts, MissingPart{"kernel", "the kernel", cause})
	}
	for _, st := range r.runner(r.work(p)).Explain(ctx, p.All, nil) {
		if !st.Needed {
			continue
		}
		part, what, err := r.lookFor(ctx, p.Lock, st.Step)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			missing.Parts = append(missing.Parts, MissingPart{part, what, err})
		}
	}
	if len(missing.Parts) == 0 {
		return cause // it has come back since: the next run finds it
	}
	return missing
}

// lookFor fetches what a step fetches. Of a step that fetches nothing, part is empty.
func (r *run) lookFor(ctx context.Context, l *spec.Lock, step *steps.Step) (part, what string, err error) {
	task := progress.Start(r.env.Sink, "look-"+step.ID, "look for all of "+step.ID)
	switch step.ID {
	case packagesStep:
		part, what = "suite", "root filesystem "+l.Rootfs.Suite
		err = r.fetchRootfs(ctx, l.Rootfs, task)
	case sourceStep:
		part, what = "kernel", "kernel"
		err = r.fetch(ctx, *l.Kernel.Archive, []archive.Locked{*l.Kernel.Package}, bytesOf(task))
	default:
		for _, t := range []spec.ToolchainLock{l.Toolchain, l.Imaging} {
			if r.from.Frozen && step.ID == toolchainID(t) {
				part, what = "toolchain", "toolchain "+string(t.Target)
				err = r.fetchToolchain(ctx, t, task)
			}
		}
	}
	task.End(part == "", err)
	return part, what, err
}

func (r *run) fetchToolchain(ctx context.Context, t spec.ToolchainLock, task *progress.Task) error {
	eng, err := r.engine(ctx)
	if err != nil {
		eng = nil // it cannot tell what it has; all is looked for then
	}
	lock := t.Lock
	if eng != nil {
		if lock, err = on(eng, t); err != nil {
			return err
		}
	}
	ac, err := r.archive(lock.Suite, lock.Arch(), lock.Date)
	if err != nil {
		return err
	}
	return toolchain.Maker{Engine: eng, Archive: ac, Task: task}.Fetch(ctx, lock)
}
