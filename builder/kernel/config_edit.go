package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/kimg/kimg/builder/kernel/kconfig"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/progress"
)

// Editors are the programs that Edit opens, by the names of their make targets.
var Editors = []string{"menuconfig", "nconfig"}

// Terminal is what an editor is shown on.
type Terminal struct {
	In     io.Reader // every key; the terminal is raw
	Out    io.Writer
	Name   string // TERM
	Resize <-chan container.Winsize
}

// Editing says how the job's configuration is to be edited. The result is a change of Set, which the user keeps.
type Editing struct {
	Editor string
	// Open is called when the editor is about to start, restore at its end.
	Open func() (t Terminal, restore func(), err error)

	// Kept and Set are the job's requests that are in files already: Kept stays, Set may lose members. The job's
	// other requests (flags) are where the editor starts from, and become part of the change.
	Kept, Set []Request
}

// Edited is what an editor changed.
type Edited struct {
	Dropped []Request // those of Set that are no longer wanted
	Added   []Request // to be added to Set, in the order of their symbols
	Lost    []string  // symbols for which Set does not reproduce what the editor saved: SYMBOL=VALUE
}

// Edit opens an editor on the job's configuration, in the toolchain's container; nil: nothing was changed or saved.
// The change is what differs, has a prompt, and is not what kconfig would choose anyway; it is composed again to
// check that it gives what the editor saved.
func Edit(ctx context.Context, eng container.Engine, j Job, e Editing, task *progress.Task) (out *Edited, err error) {
	err = onWorker(ctx, eng, j, task, func(w *worker) error {
		version, err := w.dialect(ctx, j.Tree.Version, j.Config)
		if err == nil {
			out, err = w.edit(ctx, version, j.Config, e)
		}
		return err
	})
	return out, err
}

// Composition is what requests make of a base.
type Composition struct {
	Base, Final []byte    // .config files
	Requested   []Request // in the names of the kernel's version, and the lines of a user's own base that were lost
	Unmet       []Unmet   // of the job's requests, with their reasons
}

// Compose composes the job's configuration. What a build would refuse is in Unmet; what it would warn of is told.
func Compose(ctx context.Context, eng container.Engine, j Job, task *progress.Task) (c Composition, err error) {
	err = onWorker(ctx, eng, j, task, func(w *worker) error {
		version, err := w.dialect(ctx, j.Tree.Version, j.Config)
		if err != nil {
			return err
		}
		same := own("same.config", sameConfig, version)
		text, mine, err := w.base(ctx, version, j.Config, same)
		if err != nil {
			return err
		}
		if c.Base, err = w.lay(ctx, text, mine, nil); err != nil {
			return err
		}
		c.Requested = translate(version, j.Config.Requests)
		if c.Final, err = w.lay(ctx, text, mine, c.Requested); err != nil {
			return err
		}
		final := kconfig.ParseConfig(c.Final)
		if c.Unmet = Unmets(final, c.Requested); len(c.Unmet) > 0 {
			if err := w.explain(ctx, final, c.Unmet); err != nil {
				return err
			}
		}
		warnOverruled(task, same, c.Requested)
		if err := w.warnHeld(ctx, same, final, c.Requested); err != nil {
			return err
		}
		list, err := w.losses(ctx, j.Config, version, final, c.Requested)
		if len(list) > 0 {
			task.Warn(lostWarning(j.Config, version, list, c.Requested))
		}
		for _, l := range list {
			c.Requested = append(c.Requested, l.Request)
		}
		return err
	})
	return c, err
}

// editConfig is what an editor works on: not the .config of the last build, and not what olddefconfig works on. It
// is in the object directory for the reason that newConfig is.
const editConfig = objDir + "/kimg.edit"

func (w *worker) edit(ctx context.Context, version dialect, c Config, e Editing) (*Edited, error) {
	base, mine, err := w.base(ctx, version, c, own("same.config", sameConfig, version))
	if err != nil {
		return nil, err
	}
	before, err := w.lay(ctx, base, mine, translate(version, c.Requests))
	if err != nil {
		return nil, err
	}
	if err := w.write(ctx, editConfig, before); err != nil {
		return nil, err
	}
	if err := w.editor(ctx, e); err != nil {
		return nil, err
	}
	after, err := w.read(ctx, editConfig)
	if err != nil {
		return nil, fmt.Errorf("read what %s saved: %w", e.Editor, err)
	}
	if bytes.Equal(before, after) || maps.Equal(spelt(before), spelt(after)) {
		return nil, nil
	}
	held, dropped := split(version, e.Set, after)
	written := func(more []Request) ([]byte, error) {
		return w.lay(ctx, base, mine, translate(version, slices.Concat(e.Kept, held, more)))
	}
	from, err := written(nil)
	if err != nil {
		return nil, err
	}
	tree, _, err := w.kconfigTree(ctx)
	if ctx.Err() != nil {
		return nil, err
	}
	if err != nil { // what was edited is worth more
		w.task.Warn("what was changed may be more than is needed: " + err.Error())
	}
	all := changes(from, after, translate(version, e.Kept), tree)
	odd, err := w.oddities(ctx, from, after)
	if err != nil {
		return nil, err
	}
	few := fewer(all, odd, tree)
	// Few where they suffice; otherwise all, and what even those do not bring is Lost.
	out := &Edited{Dropped: dropped}
	for _, add := range [][]Request{few, all} {
		got, err := written(add)
		if err != nil {
			return nil, err
		}
		out.Added, out.Lost = add, lost(after, got)
		if len(out.Lost) == 0 {
			break
		}
	}
	return out, nil
}

// editor runs the editor on the user's terminal. A TERM that the image does not know becomes the most common one.
func (w *worker) editor(ctx context.Context, e Editing) error {
	t, restore, err := e.Open()
	if err != nil {
		return err
	}
	argv := makeArgv(w.vars, "--no-print-directory", "KCONFIG_CONFIG="+editConfig, e.Editor)
	argv[2] = `infocmp "$TERM" >/dev/null 2>&1 || TERM=xterm-256color; ` + argv[2]
	var tail faults
	err = w.Exec(ctx, &container.ExecCmd{
		Args: argv, Env: append(slices.Clone(w.env), "TERM="+t.Name), User: user, Dir: workDir,
		Stdin: t.In, Stdout: io.MultiWriter(t.Out, &tail), TTY: true, Resize: t.Resize,
	})
	restore()
	if exit := (*container.ExitError)(nil); errors.As(err, &exit) {
		return fmt.Errorf("make %s: %w", e.Editor, tail.wrap(err))
	}
	if err != nil {
		return fmt.Errorf("make %s: %w", e.Editor, err)
	}
	return nil
}

// oddities are the symbols that, in one of the two or in both, are not what kconfig would choose by itself.
func (w *worker) oddities(ctx context.Context, configs ...[]byte) (map[string]bool, error) {
	odd := map[string]bool{}
	for _, text := range configs {
		if err := w.write(ctx, newConfig, text); err != nil {
			return nil, err
		}
		if err := w.make(ctx, "KCONFIG_CONFIG="+newConfig, "savedefconfig"); err != nil {
			return nil, fmt.Errorf("make savedefconfig: %w", err)
		}
		short, err := w.read(ctx, objDir+"/defconfig")
		if err != nil {
			return nil, fmt.Errorf("read what savedefconfig wrote: %w", err)
		}
		for name := range spelt(short) {
			odd[name] = true
		}
	}
	return odd, nil
}

// spelt reads a .config with what it says is off: such a symbol is n, and one that it does not speak of is absent.
func spelt(text []byte) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, value := kconfig.ParseLine(line); name != "" {
			values[name] = value
		}
	}
	return values
}

func split(version dialect, reqs []Request, config []byte) (held, dropped []Request) {
	cfg := kconfig.ParseConfig(config)
	for _, r := range reqs {
		if len(Unmets(cfg, translate(version, []Request{r}))) == 0 {
			held = append(held, r)
		} else {
			dropped = append(dropped, r)
		}
	}
	return held, dropped
}

// changes lists, by symbol, what a user would have to set for one .config to become the other. A symbol that
// vanished needs nothing, unless one of kept still asks for it. tree may be nil.
func changes(from, to []byte, kept []Request, tree *kconfig.Tree) []Request {
	a, b := spelt(from), spelt(to)
	for _, r := range last(kept) {
		if _, ok := b[r.Symbol]; !ok && r.Value != "n" {
			b[r.Symbol] = "n"
			if a[r.Symbol] == "" {
				a[r.Symbol] = r.Value // it did not survive before, either, but is asked for
			}
		}
	}
	var out []Request
	for _, name := range slices.Sorted(maps.Keys(b)) {
		if was, ok := a[name]; ok && was == b[name] || !plainValue(b[name]) || tree != nil && !tree.Prompted(name) {
			continue
		}
		out = append(out, Request{Symbol: name, Value: b[name], Origin: "the editor"})
	}
	return out
}

// fewer leaves out what kconfig would choose by itself, and members of a choice that give way to the chosen one.
func fewer(reqs []Request, odd map[string]bool, tree *kconfig.Tree) []Request {
	chosen := map[string]bool{} // members of choices in which one is asked for
	for _, r := range reqs {
		if r.Value != "y" || !odd[r.Symbol] || tree == nil || tree.Symbols[r.Symbol] == nil {
			continue
		}
		for _, d := range tree.Symbols[r.Symbol].Defs {
			if d.Choice != nil {
				for _, m := range d.Choice.Members {
					chosen[m] = true
				}
			}
		}
	}
	var out []Request
	for _, r := range reqs {
		if odd[r.Symbol] && !(r.Value == "n" && chosen[r.Symbol]) {
			out = append(out, r)
		}
	}
	return out
}

func lost(want, got []byte) []string {
	w, g := kconfig.ParseConfig(want), kconfig.ParseConfig(got)
	var out []string
	for _, name := range slices.Sorted(maps.Keys(w)) {
		if !sameValue(w[name], g.Get(name)) {
			out = append(out, name+"="+w[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(g)) {
		if _, ok := w[name]; !ok && g[name] != `""` {
			out = append(out, name+"=n")
		}
	}
	return out
}
