package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/terminal"
	"github.com/spf13/cobra"
)

type configTable struct {
	edit func(context.Context, builder.Env, spec.Spec, builder.ConfigEdit) (*builder.ConfigChange, error)
	diff func(context.Context, builder.Env, spec.Spec, string, io.Writer) error
	show func(context.Context, builder.Env, spec.Spec, io.Writer) error
}

func (a *app) config() *cobra.Command {
	var diff, show bool
	edit := builder.ConfigEdit{Dir: ".", Editor: kernel.Editors[0]}
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Change the kernel's configuration in menuconfig, or show it",
		Long: `Open menuconfig, in the toolchain's container, on the configuration that build would
use, and write only what you changed into kimg.yaml, under set:. Symbols that follow from
a change are left out. kimg.yaml keeps its comments, and is created if there is none.
Leaving without saving changes nothing.

--diff and --show need no terminal. --diff prints each symbol that differs from the base:
the base's value, the current value, and where that comes from: kimg.yaml, a fragment's
line, a flag, kimg's own requests, or other symbols that it follows from.`,
		Example: `  kimg config
  kimg config --kernel ~/src/linux --editor nconfig
  kimg config --save debug.config     # a fragment, for build --fragment
  kimg config --diff --set KASAN=y`,
		Args: noArgs,
	}
	cmd.Flags().BoolVar(&diff, "diff", false, "print what differs from the base")
	cmd.Flags().BoolVar(&show, "show", false, "print the whole .config")
	cmd.Flags().StringVar(&edit.Editor, "editor", edit.Editor,
		"`NAME` of the editor: "+strings.Join(kernel.Editors, " or "))
	cmd.Flags().StringVar(&edit.Save, "save", "", "write what was changed into the fragment `FILE`, not into kimg.yaml")
	flags := addSpecFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if diff && show || (diff || show) && (cmd.Flags().Changed("save") || cmd.Flags().Changed("editor")) {
			return usageError{cmd,
				errors.New("--diff and --show only print: they exclude each other, --save and --editor")}
		}
		if !slices.Contains(kernel.Editors, edit.Editor) {
			return &spec.InputError{Field: "--editor",
				Err: fmt.Errorf("%q is none of %s", edit.Editor, strings.Join(kernel.Editors, ", "))}
		}
		sp, err := flags.spec(".")
		if err != nil {
			return err
		}
		if !diff && !show && !(terminal.Of(a.stdin).Is() && terminal.Of(a.stdout).Is()) {
			return &noTerminalError{edit.Editor}
		}
		return a.withEnv(func(env builder.Env, done func()) error {
			switch {
			case diff:
				return a.actions.config.diff(cmd.Context(), env, sp, ".", a.stdout)
			case show:
				return a.actions.config.show(cmd.Context(), env, sp, a.stdout)
			}
			edit.Open = func() (kernel.Terminal, func(), error) {
				done()
				return a.openTerminal(cmd.Context())
			}
			change, err := a.actions.config.edit(cmd.Context(), env, sp, edit)
			if err != nil {
				return err
			}
			done()
			a.showConfigChange(change)
			if change.File != "" && cmd.Flags().Changed("config") {
				fmt.Fprintf(a.stderr,
					"note: the change is to --config %s: give it to build, too, or write it into %s\n",
					sp.Config, spec.File)
			}
			return nil
		})
	}
	return cmd
}

func (a *app) showConfigChange(c *builder.ConfigChange) {
	if c.File == "" {
		fmt.Fprintln(a.stderr, "nothing changed: nothing was written")
		return
	}
	for _, s := range c.Dropped {
		fmt.Fprintln(a.stdout, "-", s)
	}
	for _, s := range c.Added {
		fmt.Fprintln(a.stdout, "+", s)
	}
	fmt.Fprintln(a.stderr, "written to "+c.File)
	if len(c.Lost) > 0 {
		fmt.Fprintf(a.stderr, "warning: these changes cannot be requested: %s\n",
			progress.CleanText(strings.Join(c.Lost, " ")))
	}
}

// openTerminal has every key go to the reader of the Terminal, until restore, which may be called more than once.
func (a *app) openTerminal(ctx context.Context) (_ kernel.Terminal, restore func(), err error) {
	raw, err := terminal.Of(a.stdin).Raw()
	if err != nil {
		return kernel.Terminal{}, nil, err
	}
	sizes := make(chan container.Winsize, 1)
	ctx, stop := context.WithCancel(ctx)
	go terminal.Of(a.stdout).Follow(ctx, func(size terminal.Size) {
		select {
		case sizes <- container.Winsize{Rows: uint(size.Rows), Cols: uint(size.Cols)}:
		case <-ctx.Done():
		}
	})
	restore = func() {
		stop()
		raw()
	}
	name := cmp.Or(os.Getenv("TERM"), "xterm")
	return kernel.Terminal{In: a.stdin, Out: a.stdout, Name: name, Resize: sizes}, restore, nil
}

type noTerminalError struct{ editor string }

func (e *noTerminalError) Error() string {
	return "open " + e.editor + ": stdin and stdout are no terminal"
}

func (e *noTerminalError) Hint() string {
	return "run it on a terminal; or ask with --set SYM=VALUE, and look with kimg config --diff or --show"
}
