package builder

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"github.com/google/renameio/v2"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/builder/kernel/kconfig"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/steps"
)

// ConfigEdit says how the kernel's configuration is edited and where the change
// is written.
type ConfigEdit struct {
	Dir    string // of kimg.yaml
	Save   string // a fragment file to be written instead; empty: kimg.yaml
	Editor string // one of kernel.Editors
	Open   func() (t kernel.Terminal, restore func(), err error)
}

// ConfigChange is what an edit wrote.
type ConfigChange struct {
	File           string // what was written; empty: nothing changed, nothing was written
	Added, Dropped []string
	Lost           []string // SYMBOL=VALUE that the person chose and the file cannot bring about
}

// EditConfig opens an editor on the configuration that the Spec asks for, and
// writes what the person changed, and no more, into kimg.yaml's set: or into a
// fragment. kimg.yaml is made where there is none.
func EditConfig(ctx context.Context, env Env, spec Spec, e ConfigEdit) (*ConfigChange, error) {
	mine, err := Load(e.Dir)
	if err != nil {
		return nil, err
	}
	var change *ConfigChange
	err = onConfig(ctx, env, spec, "edit the configuration", func(ctx context.Context, eng container.Engine, j kernel.Job, task *progress.Task) error {
		editing := kernel.Editing{Editor: e.Editor, Open: e.Open}
		for _, f := range mine.Fragments {
			r, err := readFragment(f)
			if err != nil {
				return err
			}
			editing.Kept = append(editing.Kept, r...)
		}
		for _, set := range mine.Set {
			r, err := kernel.ParseSet(set)
			if err != nil {
				return err
			}
			r.Origin = set // as it is written there
			editing.Set = append(editing.Set, r)
		}
		if e.Save != "" { // the fragment comes on top of all of it
			editing.Kept, editing.Set = slices.Concat(editing.Kept, editing.Set), nil
		}
		edited, err := kernel.Edit(ctx, eng, j, editing, task)
		if err != nil {
			return err
		}
		change, err = e.write(edited, editing.Set)
		return err
	})
	return change, err
}

// write puts what was edited into its file.
func (e ConfigEdit) write(edited *kernel.Edited, had []kernel.Request) (*ConfigChange, error) {
	if edited == nil || len(edited.Added)+len(edited.Dropped) == 0 {
		return &ConfigChange{}, nil
	}
	c := &ConfigChange{File: cmp.Or(e.Save, filepath.Join(e.Dir, SpecFile)), Lost: edited.Lost}
	var fragment bytes.Buffer
	for _, r := range edited.Added {
		c.Added = append(c.Added, r.String())
		fragment.WriteString(r.Line() + "\n")
	}
	for _, r := range edited.Dropped {
		c.Dropped = append(c.Dropped, r.Origin)
	}
	if e.Save != "" {
		if err := renameio.WriteFile(e.Save, fragment.Bytes(), 0o644); err != nil {
			return nil, fmt.Errorf("write %s: %w", e.Save, err)
		}
		return c, nil
	}
	var set []string
	for _, r := range had {
		if !slices.Contains(c.Dropped, r.Origin) {
			set = append(set, r.Origin)
		}
	}
	text, err := os.ReadFile(c.File)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("edit spec: %w", err)
	}
	if text, err = editSet(text, append(set, c.Added...)); err != nil {
		return nil, specFileError(c.File, err)
	}
	mode := fs.FileMode(0o644)
	if st, err := os.Stat(c.File); err == nil {
		mode = st.Mode().Perm()
	}
	if err := renameio.WriteFile(c.File, text, mode); err != nil {
		return nil, fmt.Errorf("edit spec: %w", err)
	}
	return c, nil
}

// ShowConfig writes the whole .config that the Spec asks for, unproven.
func ShowConfig(ctx context.Context, env Env, spec Spec, w io.Writer) error {
	return onConfig(ctx, env, spec, "compose the configuration", func(ctx context.Context, eng container.Engine, j kernel.Job, task *progress.Task) error {
		_, final, _, err := kernel.Compose(ctx, eng, j, task)
		if err != nil {
			return err
		}
		_, err = w.Write(final)
		return err
	})
}

// DiffConfig writes, one a line, the symbols that differ from the base, with
// both values and who asked; and those that were asked for and not taken.
func DiffConfig(ctx context.Context, env Env, spec Spec, dir string, w io.Writer) error {
	mine, err := Load(dir)
	if err != nil {
		return err
	}
	return onConfig(ctx, env, spec, "compare the configuration with its base", func(ctx context.Context, eng container.Engine, j kernel.Job, task *progress.Task) error {
		for i, r := range j.Config.Requests {
			// kimg.yaml's settings come before those of flags, after all fragments.
			if n := i - (len(j.Config.Requests) - len(spec.Set)); n >= 0 && n < len(mine.Set) {
				r.Origin = SpecFile
				j.Config.Requests[i] = r
			}
		}
		base, final, asked, err := kernel.Compose(ctx, eng, j, task)
		if err != nil {
			return err
		}
		return writeConfigDiff(w, kconfig.ParseConfig(base), kconfig.ParseConfig(final), asked)
	})
}

func writeConfigDiff(w io.Writer, base, now kconfig.Config, asked []kernel.Request) error {
	by := map[string]kernel.Request{}
	for _, r := range asked {
		by[r.Symbol] = r
	}
	names := map[string]bool{}
	for _, c := range []kconfig.Config{base, now} {
		for name := range c {
			names[name] = names[name] || base.Get(name) != now.Get(name)
		}
	}
	unmet := map[string]bool{}
	for _, u := range kernel.Unmets(now, asked) {
		unmet[u.Symbol], names[u.Symbol] = true, true
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "SYMBOL\tBASE\tNOW\tASKED BY")
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if !names[name] {
			continue
		}
		r, is := by[name]
		origin := "(follows)"
		switch {
		case unmet[name]:
			origin = fmt.Sprintf("%s (wants %s: not met)", r.Origin, r.Value)
		case is:
			origin = r.Origin
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", name, base.Get(name), now.Get(name), origin)
	}
	return tw.Flush()
}

// onConfig does what has to do with the kernel's configuration alone: the
// source and the toolchain are resolved and made, the rest of a build is not.
func onConfig(ctx context.Context, env Env, spec Spec, title string, do func(context.Context, container.Engine, kernel.Job, *progress.Task) error) error {
	s, err := open(env, spec)
	if err != nil {
		return err
	}
	defer s.close()
	if err := spec.Check(); err != nil {
		return err
	}
	l, err := s.resolveKernelOnly(ctx)
	if err != nil {
		return err
	}
	tool := s.toolchainStep(&l.Toolchain)
	config, err := s.config(l.Config)
	if err != nil {
		return err
	}
	if _, err = s.runner().Get(ctx, s.beforeKernel(l, tool)...); isMissing(err) && !s.spec.Frozen && failedStep(err) == tool.ID {
		if err = s.renew(ctx, &l.Toolchain); err == nil {
			_, err = s.runner().Get(ctx, s.beforeKernel(l, s.toolchainStep(&l.Toolchain))...)
		}
	}
	if err != nil {
		return err
	}
	eng, job, err := s.job(ctx, l, config)
	if err != nil {
		return err
	}
	task := progress.Start(s.Sink, "config", title, progress.Why(fmt.Sprintf("Linux %s, %s", l.Kernel.Version, l.Config.Base)))
	err = do(ctx, eng, job, task)
	task.End(false, err)
	return err
}

// beforeKernel are the steps that the kernel's step needs.
func (s *session) beforeKernel(l *Lock, tool *steps.Step) []*steps.Step {
	compile, _ := s.kernelSteps(l, tool)
	return compile.After
}

// resolveKernelOnly is resolve for the kernel's branch.
func (s *session) resolveKernelOnly(ctx context.Context) (*Lock, error) {
	old, err := s.oldLock()
	if err != nil {
		return nil, err
	}
	if old == nil {
		old = &Lock{}
	}
	l := &Lock{Version: lockVersion}
	src, err := s.localSource(ctx)
	if err != nil {
		return nil, err
	}
	if l.Config, err = s.resolveConfig(); err != nil {
		return nil, err
	}
	patches, err := readPatches(s.spec.Patches)
	if err != nil {
		return nil, err
	}
	if l.Kernel, err = s.resolveKernel(ctx, src, old.Kernel); err != nil {
		return nil, err
	}
	if l.Toolchain, err = s.resolveToolchain(l.Kernel.Version, old.Toolchain); err != nil {
		return nil, err
	}
	l.Kernel.Epoch, l.Kernel.Patches, l.Kernel.NoFixes = l.Toolchain.Lock.Date.Unix(), patches, s.spec.NoFixes
	return l, nil
}
