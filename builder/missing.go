package builder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kimg/kimg/builder/toolchain"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/kernelorg"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/steps"
)

// MissingError tells of all that a lock pins and that can no longer be had: one
// part after another, so that nobody has to find them out run by run.
type MissingError struct {
	Parts []MissingPart
	from  string // how the lock is spelled on a command line
}

// MissingPart is a part of a lock of which something cannot be had.
type MissingPart struct {
	Part string // of UpdateParts
	What string // for a person
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

// Hint is the way out.
func (e *MissingError) Hint() string {
	var parts []string
	packages, kernel := false, false
	for _, p := range e.Parts {
		if !slices.Contains(parts, p.Part) {
			parts = append(parts, p.Part)
		}
		var gone *archive.MissingError
		packages = packages || errors.As(p.Err, &gone)
		kernel = kernel || !errors.As(p.Err, &gone)
	}
	var ways []string
	if packages {
		ways = append(ways, "name a mirror that has the packages with --mirror, or a snapshot service with KIMG_SNAPSHOT")
	}
	if kernel {
		ways = append(ways, "name a mirror that has the kernel with --kernel-mirror")
	}
	return strings.Join(append(ways, "have other ones pinned with kimg lock update"+e.from+" "+strings.Join(parts, " ")), "; or ")
}

// allMissing makes of an error about something that is gone one about all that is
// gone: whatever else the plan would have to fetch is looked for as well. What is
// there comes into the store on the way. Toolchains count only where they may not
// be resolved anew.
func (s *session) allMissing(ctx context.Context, p *Plan, cause error) error {
	missing := &MissingError{}
	if s.spec.Lock != "" {
		missing.from = " --lock " + s.spec.Lock
	}
	var gone *archive.MissingError
	if !errors.As(cause, &gone) { // of the kernel's download, which no step is
		missing.Parts = append(missing.Parts, MissingPart{"kernel", "the kernel", cause})
	}
	for _, st := range s.runner().Explain(ctx, p.All, nil) {
		if !st.Needed {
			continue
		}
		part, what, err := s.lookFor(ctx, p.Lock, st.Step)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			missing.Parts = append(missing.Parts, MissingPart{part, what, err})
		}
	}
	if len(missing.Parts) == 0 {
		return cause // it has come back since: the person will try again
	}
	return missing
}

// lookFor fetches what a step fetches. Of a step that fetches nothing, part is empty.
func (s *session) lookFor(ctx context.Context, l *Lock, step *steps.Step) (part, what string, err error) {
	task := progress.Start(s.Sink, "look-"+step.ID, "look for all of "+step.ID)
	switch step.ID {
	case "packages":
		part, what, err = "suite", "root filesystem "+l.Rootfs.Suite, s.fetch(ctx, l.Rootfs.Archive, l.Rootfs.Packages(), task)
	case "source":
		part, what, err = "kernel", "kernel", s.fetch(ctx, *l.Kernel.Archive, []archive.Locked{*l.Kernel.Package}, task)
	default:
		for _, t := range []ToolchainLock{l.Toolchain, l.Imaging} {
			if s.spec.Frozen && step.ID == toolchainID(t) {
				part, what, err = "toolchain", "toolchain "+string(t.Target), s.fetchToolchain(ctx, t, task)
			}
		}
	}
	task.End(part == "", err)
	return part, what, err
}

func (s *session) fetchToolchain(ctx context.Context, t ToolchainLock, task *progress.Task) error {
	eng, err := s.engine(ctx)
	if err != nil {
		eng = nil // it cannot tell what it has; all is looked for then
	}
	ac, err := s.archive(t.Lock.Suite, t.Lock.Date)
	if err != nil {
		return err
	}
	return toolchain.Maker{Engine: eng, Archive: ac, Task: task}.Fetch(ctx, t.Lock)
}

// isGone reports whether a server said that it does not have a kernel.
func isGone(err error) bool {
	var none *kernelorg.NotFoundError
	return errors.As(err, &none)
}
