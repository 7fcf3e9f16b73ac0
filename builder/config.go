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
	"strings"
	"text/tabwriter"

	"github.com/google/renameio/v2"
	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/builder/kernel/kconfig"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/reading"
)

// ConfigEdit says how the kernel's configuration is edited and where the change is written.
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
	Lost           []string // SYMBOL=VALUE that the user chose and the file cannot bring about
}

// EditConfig opens an editor on the configuration that the Spec asks for, and writes what the user changed, and no
// more, into kimg.yaml's set: or into a fragment. kimg.yaml is made where there is none.
func EditConfig(ctx context.Context, env Env, sp spec.Spec, e ConfigEdit) (*ConfigChange, error) {
	mine, err := spec.Load(e.Dir)
	if err != nil {
		return nil, err
	}
	if e.Save != "" {
		if err := reading.CheckPlace(e.Save); err != nil {
			return nil, err
		}
	}
	var change *ConfigChange
	edit := func(ctx context.Context, eng container.Engine, j kernel.Job, task *progress.Task) error {
		editing := kernel.Editing{Editor: e.Editor, Open: e.Open}
		for _, r := range j.Config.Requests {
			if spec.OfForm(r) {
				editing.Kept = append(editing.Kept, r)
			}
		}
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
	}
	err = onConfig(ctx, env, sp, "edit the configuration", edit)
	return change, err
}

func (e ConfigEdit) write(edited *kernel.Edited, had []kernel.Request) (*ConfigChange, error) {
	if edited == nil || len(edited.Added)+len(edited.Dropped) == 0 {
		return &ConfigChange{}, nil
	}
	c := &ConfigChange{File: cmp.Or(e.Save, filepath.Join(e.Dir, spec.File)), Lost: edited.Lost}
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
	if text, err = spec.EditSet(text, append(set, c.Added...)); err != nil {
		return nil, &spec.InputError{Field: spec.File, Err: fmt.Errorf("edit %s: %w", c.File, err)}
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

func readFragment(name string) ([]kernel.Request, error) {
	b, err := reading.Small(name, spec.MaxConfig)
	if err != nil {
		return nil, fmt.Errorf("read config fragment: %w", err)
	}
	return kernel.ParseFragment(bytes.NewReader(b), name, arch.Arch{})
}

// ShowConfig writes the whole .config that the Spec asks for, unproven.
func ShowConfig(ctx context.Context, env Env, sp spec.Spec, w io.Writer) error {
	show := func(ctx context.Context, eng container.Engine, j kernel.Job, task *progress.Task) error {
		c, err := kernel.Compose(ctx, eng, j, task)
		if err != nil {
			return err
		}
		_, err = w.Write(c.Final)
		return err
	}
	return onConfig(ctx, env, sp, "compose the configuration", show)
}

// DiffConfig writes the symbols that differ from the base, with both values and who asked; and those not taken.
func DiffConfig(ctx context.Context, env Env, sp spec.Spec, dir string, w io.Writer) error {
	mine, err := spec.Load(dir)
	if err != nil {
		return err
	}
	diff := func(ctx context.Context, eng container.Engine, j kernel.Job, task *progress.Task) error {
		for i, r := range j.Config.Requests {
			// kimg.yaml's settings come before those of flags, after all fragments.
			if n := i - (len(j.Config.Requests) - len(sp.Set)); n >= 0 && n < len(mine.Set) {
				r.Origin = spec.File
				j.Config.Requests[i] = r
			}
		}
		c, err := kernel.Compose(ctx, eng, j, task)
		if err != nil {
			return err
		}
		return writeConfigDiff(w, c)
	}
	return onConfig(ctx, env, sp, "compare the configuration with its base", diff)
}

func writeConfigDiff(w io.Writer, c kernel.Composition) error {
	base, now := kconfig.ParseConfig(c.Base), kconfig.ParseConfig(c.Final)
	by := map[string]kernel.Request{}
	for _, r := range c.Requested {
		by[r.Symbol] = r
	}
	names := map[string]bool{}
	for _, c := range []kconfig.Config{base, now} {
		for name := range c {
			names[name] = names[name] || base.Get(name) != now.Get(name)
		}
	}
	unmet := map[string]string{}
	for _, u := range kernel.Unmets(now, c.Requested) {
		unmet[u.Symbol], names[u.Symbol] = "not met", true
	}
	for _, u := range c.Unmet {
		unmet[u.Symbol] = strings.TrimSuffix("not met: "+u.Why, ": ")
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
		case unmet[name] != "":
			origin = fmt.Sprintf("%s (wants %s: %s)", r.Origin, r.Value, unmet[name])
		case is:
			origin = r.Origin
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", name, base.Get(name), now.Get(name), origin)
	}
	return tw.Flush()
}

// configWork is what has to do with the kernel's configuration alone.
type configWork func(context.Context, container.Engine, kernel.Job, *progress.Task) error

// onConfig does such work: the source and the toolchain are resolved and made, the rest of a build is not.
func onConfig(ctx context.Context, env Env, sp spec.Spec, title string, do configWork) error {
	if err := sp.Check(); err != nil {
		return err
	}
	q, err := sp.Request()
	if err != nil {
		return err
	}
	old, err := lockIn(sp.Out)
	if err != nil {
		return err
	}
	t, err := openTools(env, sp.Sources, q.Suite)
	if err != nil {
		return err
	}
	defer t.close()
	l, err := (&resolver{Sources: t.Sources, q: q, old: old, kernelOnly: true}).lock(ctx)
	if err != nil {
		return err
	}
	if err := t.ensureToolchain(ctx, &l.Toolchain); err != nil {
		return err
	}
	r := &run{tools: t, kernel: q.Kernel, jobs: sp.Jobs}
	p := &Plan{Lock: l}
	if _, err := p.planKernel(); err != nil {
		return err
	}
	if _, err := t.runner(r.work(p)).Get(ctx, p.Kernel.After...); err != nil {
		return err
	}
	eng, job, err := r.job(ctx, l)
	if err != nil {
		return err
	}
	job.Beside = !job.Temporary // whose volumes are removed by their names
	why := progress.Why(fmt.Sprintf("Linux %s, %s", l.Kernel.Version, l.Config.Base))
	task := progress.Start(t.env.Sink, "config", title, why)
	err = do(ctx, eng, job, task)
	task.End(false, err)
	return err
}
