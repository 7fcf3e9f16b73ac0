package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/image"
	"github.com/kimg/kimg/internal/cache"
	"github.com/kimg/kimg/internal/progress"
	"github.com/spf13/cobra"
)

type app struct {
	stdin          *os.File
	stdout, stderr *os.File // results go to stdout, all else to stderr
	interrupts     func() <-chan os.Signal
	actions        table

	progressMode string // --progress
	engineName   string // --engine
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "kimg",
		Short: "A kernel to single-step, and the root filesystem that it boots",
		Long: `kimg turns two names, a kernel and a suite, into a kernel with debug symbols and a
bootable root filesystem. It compiles and bootstraps in containers: nothing runs as
root on this machine, nothing is mounted, and nothing is installed.`,
		Example: `  kimg build --kernel ~/src/linux --suite bookworm --config vm
  kimg run                        # a root shell on the serial console
  kimg run -- uname -r            # one command in the guest
  kimg debug --break do_sys_open  # gdb's prompt there
  kimg check --break do_sys_open  # the same unattended: prints the backtrace`,
		SilenceUsage:  true, // report says it in fewer lines
		SilenceErrors: true,
		Args:          noCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cobra.EnableCommandSorting = false // the order of work, not of the alphabet
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError{cmd, err} })
	root.PersistentFlags().StringVar(&a.progressMode, "progress", "auto",
		"show what happens on stderr as `MODE`: "+strings.Join(progress.Modes, ", "))
	root.PersistentFlags().StringVar(&a.engineName, "engine", "",
		"work in container engine `NAME`: "+strings.Join(container.EngineNames, ", ")+
			"\n(default: KIMG_ENGINE, engine in kimg.yaml, or auto)")
	root.AddCommand(a.build(), a.plan(), a.config(), a.run(), a.ssh(), a.snapshot(), a.debug(),
		a.why(), a.recording(), a.console(), a.check(), a.decode(), a.lock(), a.verify(), a.sign(), a.diff(),
		a.export(),
		a.toolchain(), a.cache(), a.engine(), a.version())
	addCompletions(root, flagValues())
	return root
}

func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2 // cobra looks no further than an equal name otherwise
	err := fmt.Errorf("unknown command %q", args[0])
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		err = fmt.Errorf("%w: did you mean %s?", err, strings.Join(near, " or "))
	}
	return usageError{cmd, err}
}

func noArgs(cmd *cobra.Command, args []string) error { return atMost(0, "")(cmd, args) }

func atMost(n int, want string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) <= n {
			return nil
		}
		return usageError{cmd, fmt.Errorf("unexpected argument %q%s", args[n], want)}
	}
}

// withEnv runs do with an environment whose progress is shown until done is called.
func (a *app) withEnv(do func(env builder.Env, done func()) error) error {
	sink, err := progress.New(a.progressMode, a.stderr)
	if err != nil {
		return &spec.InputError{Field: "--progress", Err: err}
	}
	defer sink.Close()
	dir, err := builder.CacheDir()
	if err != nil {
		return err
	}
	engine, err := a.engineChoice(dir)
	if err != nil {
		return err
	}
	by, err := image.ParseEmulation(os.Getenv("KIMG_EMULATION"))
	if err != nil {
		return &spec.InputError{Field: "KIMG_EMULATION", Err: err}
	}
	defer cache.Enter(dir)()
	return do(builder.Env{
		Cache: dir, Sink: sink, Host: "/", Engine: engine, Ccache: os.Getenv("KIMG_CCACHE"), Emulation: by,
	}, sink.Close)
}

// engineChoice is the engine that the flag, the environment or this directory's kimg.yaml names.
func (a *app) engineChoice(cache string) (container.Choice, error) {
	c := container.Choice{Engine: a.engineName, Dir: builder.EngineDir(cache)}
	from := "--engine"
	if c.Engine == "" {
		c.Engine, from = os.Getenv("KIMG_ENGINE"), "KIMG_ENGINE"
	}
	wrong := func(err error) error { return &spec.InputError{Field: from, Err: err} }
	if c.Engine == "" {
		sp, err := spec.Load(".")
		if err != nil {
			return c, err
		}
		c.Engine = sp.Engine
		wrong = func(err error) error { return sp.Wrong("--engine", sp.Engine, err) }
	}
	if c.Engine != "" && !slices.Contains(container.EngineNames, c.Engine) {
		return c, wrong(fmt.Errorf("there is no engine %q: want one of %s", c.Engine,
			strings.Join(container.EngineNames, ", ")))
	}
	return c, nil
}

func (a *app) printJSON(what string, v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("print %s: %w", what, err)
	}
	return nil
}
