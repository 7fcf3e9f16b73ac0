package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/units"
	"github.com/spf13/cobra"
)

type lockTable struct {
	update func(context.Context, builder.Env, spec.Spec, builder.UpdateRequest) (*spec.Change, error)
	look   func(sp spec.Spec) (l *spec.Lock, file string, why, err error)
}

func (a *app) lock() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lock",
		Short: "Show what a lock pins, or move its pins",
		Args:  noCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.lockShow(), a.lockUpdate())
	return cmd
}

func lockFlags(cmd *cobra.Command, given *spec.Spec) {
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&given.Out, "out", spec.Default().Out, "the lock of the build in `DIR`")
	cmd.Flags().StringVar(&given.Lock, "lock", "", "the lock `FILE`")
}

func (a *app) lockShow() *cobra.Command {
	var given spec.Spec
	cmd := &cobra.Command{
		Use:     "show",
		Short:   "Show in a few lines what a lock pins",
		Long:    "Show in a few lines what a lock pins, and whether this kimg can build from it.",
		Example: "  kimg lock show\n  kimg lock show --lock kimg.lock",
		Args:    noArgs,
	}
	lockFlags(cmd, &given)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		sp, err := lockSpec(cmd, given)
		if err != nil {
			return err
		}
		l, file, why, err := a.actions.lock.look(sp)
		if err != nil {
			return err
		}
		_, err = io.WriteString(a.stdout, lockText(l, file, why))
		return err
	}
	return cmd
}

func (a *app) lockUpdate() *cobra.Command {
	var given spec.Spec
	var req builder.UpdateRequest
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "update [" + strings.Join(spec.Parts, "|") + "]...",
		Short: "Move the pins of a lock, and print what moved",
		Long: `Move pins of a lock (that of the last build, or another one) to what is there now: the
kernel's source, the packages of the root filesystem's suite, the toolchains, or
all of them when none is named. What moved is printed for review, a line each:
~ moved, + came, - went. Nothing but the lock is written; the next build builds what it
pins. What was asked for (suite, config, packages, size) stays: kimg build changes that.

A part whose packages are still the same keeps its pins. Toolchains move to those that
ship with this kimg, which are known to make kernels that boot; with --newest to what
the archive has. A kernel.org version stays that version.

A lock that another version of kimg wrote is renewed for this one: a step that this kimg
takes differently is reported as an action that moved.`,
		Example: `  kimg lock update --dry-run
  kimg lock update suite
  kimg lock update --lock kimg.lock kernel toolchain
  kimg lock update --json | jq -r '.parts[].packages[].name'`,
		ValidArgs: spec.Parts,
	}
	lockFlags(cmd, &given)
	flags := cmd.Flags()
	flags.BoolVar(&req.DryRun, "dry-run", false, "print what would move, and write nothing")
	flags.BoolVar(&req.Newest, "newest", false, "take the toolchains' packages from the archive as it is now")
	flags.StringVar(&given.Kernel, "kernel", "", "the locked directory or tarball is now at `PATH`")
	flags.StringVar(&given.Mirror, "mirror", "", "take packages from `URL`")
	flags.StringVar(&given.KernelMirror, "kernel-mirror", "", "take kernel.org's kernels from `URL`")
	flags.StringArrayVar(&given.KernelKeyrings, "kernel-keyring", nil,
		"trust the keys in `FILE` to sign kernels, too (repeatable)")
	flags.BoolVar(&asJSON, "json", false, "print what moved as JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		for _, arg := range args {
			if !slices.Contains(spec.Parts, arg) {
				return usageError{cmd,
					fmt.Errorf("%q is not a part of a lock: want %s", arg, strings.Join(spec.Parts, ", "))}
			}
		}
		if req.Parts = args; req.Newest && len(args) > 0 && !slices.Contains(args, "toolchain") {
			return usageError{cmd, errors.New("--newest needs the part toolchain")}
		}
		sp, err := lockSpec(cmd, given)
		if err != nil {
			return err
		}
		return a.withEnv(func(env builder.Env, done func()) error {
			change, err := a.actions.lock.update(cmd.Context(), env, sp, req)
			if err != nil {
				return err
			}
			done()
			return a.showChange(change, req, asJSON)
		})
	}
	return cmd
}

// lockSpec says where a lock is, and where its pins come from.
func lockSpec(cmd *cobra.Command, given spec.Spec) (spec.Spec, error) {
	sp, err := spec.Load(".")
	if err != nil {
		return sp, err
	}
	if cmd.Flags().Changed("out") {
		if given.Lock != "" {
			return sp, usageError{cmd, errors.New("--out and --lock both name a lock: leave one of them out")}
		}
		sp.Out = given.Out
	}
	sp.Lock = given.Lock
	sp.Mirror = cmp.Or(given.Mirror, sp.Mirror)
	sp.KernelMirror = cmp.Or(given.KernelMirror, sp.KernelMirror)
	sp.KernelKeyrings = slices.Concat(sp.KernelKeyrings, given.KernelKeyrings)
	if given.Kernel != "" {
		sp.Kernel, sp.Given = given.Kernel, []string{"kernel"}
	}
	return sp, nil
}

func (a *app) showChange(c *spec.Change, req builder.UpdateRequest, asJSON bool) error {
	if asJSON {
		if err := a.printJSON("what moved", c); err != nil {
			return err
		}
	} else if _, err := io.WriteString(a.stdout, changeText(c)); err != nil {
		return fmt.Errorf("print what moved: %w", err)
	}
	switch {
	case c.Written:
		fmt.Fprintf(a.stderr, "%s is written: kimg build builds what it pins\n", progress.Clean(c.File))
	case req.DryRun && len(c.Parts) > 0:
		fmt.Fprintf(a.stderr, "--dry-run: %s stays as it is\n", progress.Clean(c.File))
	}
	return nil
}

// changeText is what moved, for a reader: part by part, the pins first.
func changeText(c *spec.Change) string {
	switch {
	case len(c.Parts) == 0 && c.Written:
		return "no pin moved; the lock has this kimg's version now\n"
	case len(c.Parts) == 0:
		return "nothing moved\n"
	}
	var b strings.Builder
	for i, p := range c.Parts {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s %s%s\n", p.Part, progress.Clean(p.Name), counts(p))
		t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for _, m := range p.Facts {
			moveLine(t, " ", m)
		}
		for _, m := range p.Packages {
			switch {
			case m.From == "":
				moveLine(t, "+", m)
			case m.To == "":
				moveLine(t, "-", m)
			default:
				moveLine(t, "~", m)
			}
		}
		t.Flush()
	}
	return trimLines(b.String())
}

func moveLine(w io.Writer, sign string, m spec.Move) {
	arrow, note := "->", ""
	if m.From == "" || m.To == "" {
		arrow = ""
	}
	if m.Older {
		note = "\t(older)"
	}
	fmt.Fprintf(w, "  %s %s\t%s\t%s\t%s%s\n",
		sign, progress.Clean(m.Name), progress.Clean(m.From), arrow, progress.Clean(m.To), note)
}

func counts(p spec.PartChange) string {
	var moved, came, went int
	for _, m := range p.Packages {
		switch {
		case m.From == "":
			came++
		case m.To == "":
			went++
		default:
			moved++
		}
	}
	if len(p.Packages) == 0 {
		return ""
	}
	text := fmt.Sprintf(": %d of %s moved", moved, plural(p.Total, "package"))
	if came > 0 {
		text += fmt.Sprintf(", %d came", came)
	}
	if went > 0 {
		text += fmt.Sprintf(", %d went", went)
	}
	return text
}

// trimLines takes the blanks away that a table leaves at the ends of its lines.
func trimLines(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return b.String()
}

func lockText(l *spec.Lock, file string, why error) string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(name string, words ...string) {
		words = slices.DeleteFunc(words, func(w string) bool { return w == "" })
		fmt.Fprintf(t, "%s\t%s\n", name, progress.Clean(strings.Join(words, ", ")))
	}
	row("lock", file)
	k := l.Kernel
	switch {
	case k.Package != nil:
		row("kernel", k.Called(), k.Package.Name+" "+k.Package.Version, archiveText(*k.Archive))
	case k.Download != nil:
		row("kernel", k.Called(), k.Download.URL)
	default:
		row("kernel", k.Called(), k.Source+" "+k.Request, k.SHA256.Short())
	}
	fragments := ""
	if n := len(l.Config.Fragments); n > 0 {
		fragments = plural(n, "fragment")
	}
	row("config", l.Config.Base, fragments, strings.Join(l.Config.Set, " "))
	r := l.Rootfs
	row("rootfs", r.Suite+" "+string(r.Variant), strings.Join(r.Include, " "), packagesText(r.Packages()),
		archiveText(r.Archive))
	row("image", l.Image.Size.String(), l.Image.UUID.String())
	for _, tc := range []struct {
		name string
		l    spec.ToolchainLock
	}{{"toolchain", l.Toolchain}, {"imaging", l.Imaging}} {
		row(tc.name, tc.l.Image, tc.l.Compiler, packagesText(slices.Concat(tc.l.Lock.Base, tc.l.Lock.Packages)),
			tc.l.Origin+" "+tc.l.Lock.Date.UTC().Format(time.DateOnly))
	}
	if why == nil {
		row("compatible with this kimg", "yes")
	} else {
		row("compatible with this kimg", "no: "+why.Error())
	}
	t.Flush()
	return trimLines(b.String())
}

func archiveText(l spec.ArchiveLock) string {
	return "archive of " + l.Date.UTC().Format(time.DateOnly)
}

func packagesText(list []archive.Locked) string {
	var size int64
	for _, p := range list {
		size += p.Size
	}
	return fmt.Sprintf("%s of %s", plural(len(list), "package"), units.Size(size).Human())
}
