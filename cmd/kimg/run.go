package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/internal/checks"
	"github.com/kimg/kimg/internal/terminal"
	"github.com/kimg/kimg/internal/units"
	"github.com/kimg/kimg/internal/vm"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) run() *cobra.Command {
	req := runRequest{guest: a.guest()}
	cmd := &cobra.Command{
		Use:   "run [flags] [-- COMMAND [ARG...]]",
		Short: "Boot the last build",
		Long: `Boot the last build and give its serial console to this terminal, as root. Ctrl-a x
ends the guest at once, as in QEMU.

With a command, run it in the guest as root, pass on its output, and exit with its
status; if kimg itself fails, the exit status is then 125.

What the guest writes to its disk is discarded at the end, unless --write or
--snapshot is given: then the guest is shut down at the end, and its disk checked.
QEMU comes from this machine, or from a container where it is not installed.

With --record NAME the run is recorded: kimg debug --replay NAME goes backwards from its end.
The guest is emulated then, by the container's QEMU, and the command has no input.`,
		Example: `  kimg run
  kimg run -- uname -r
  kimg run --init sh -- uname -r        # the same without systemd, in a fraction of the time
  kimg run --share ../src:/src --forward 2222:22
  kimg run --record crash --init sh -- ./test.sh
  kimg run --write -- apt-get install -y strace`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if req.command, err = guestCommand(cmd, args); err != nil {
				return err
			}
			if err := req.find(cmd.Flags(), "."); err != nil {
				return err
			}
			if err := req.extras.parse(req.write); err != nil {
				return err
			}
			if err := req.record.check(cmd.Flags()); err != nil {
				return err
			}
			if err := req.keep.check(req.command, &req.extras, req.write, req.record.name != ""); err != nil {
				return err
			}
			req.inContainer = req.record.name != ""
			if a.progressMode == "auto" && !terminal.Of(a.stderr).Is() {
				a.progressMode = "quiet" // stderr is the command's
			}
			req.quiet = a.progressMode == "quiet" && len(req.command) > 0
			return a.withEnv(func(env builder.Env, done func()) error {
				req.takeTerminal = done
				return a.actions.run(cmd.Context(), env, req)
			})
		},
	}
	req.addFlags(cmd.Flags())
	req.extras.addCold(cmd.Flags())
	req.keep.addFlags(cmd.Flags())
	req.record.addFlags(cmd.Flags(), "record the run as `NAME`, to be replayed by kimg debug --replay NAME")
	return cmd
}

// addFlags adds those of a guest that may run a command.
func (req *runRequest) addFlags(flags *pflag.FlagSet) {
	flags.SetInterspersed(false) // so that the error of "kimg run ls -l" is about --, not about -l
	req.guest.addFlags(flags)
	flags.BoolVar(&req.write, "write", false, "keep what the guest writes to its disk in rootfs.img")
	req.extras.addFlags(flags)
}

func guestCommand(cmd *cobra.Command, args []string) ([]string, error) {
	dash := cmd.ArgsLenAtDash()
	if dash < 0 {
		dash = len(args)
	}
	if dash > 0 {
		err := fmt.Errorf("unexpected argument %q: a command for the guest comes after --", args[0])
		return nil, usageError{cmd, err}
	}
	return args[dash:], nil
}

func (a *app) guest() guest {
	return guest{
		out: spec.Default().Out, memory: units.Size(1 << 30),
		stdin: a.stdin, stdout: a.stdout, stderr: a.stderr, interrupts: a.interrupts,
	}
}

// find checks the flags, and takes the artifacts' directory from dir's kimg.yaml unless a flag names it.
func (g *guest) find(flags *pflag.FlagSet, dir string) error {
	if err := noEmpty(flags); err != nil {
		return err
	}
	if err := checks.CheckMemory(g.memory); err != nil {
		return &spec.InputError{Field: "--memory", Err: err}
	}
	if !flags.Changed("memory") {
		g.memory = 0 // as much as the guest needs: an initramfs may want more than the usual
	}
	if g.cpus < 1 && flags.Changed("cpus") {
		return &spec.InputError{Field: "--cpus", Err: fmt.Errorf("%d is not a number of processors", g.cpus)}
	}
	if err := g.checkPolicy(); err != nil {
		return err
	}
	if g.timeout < 0 {
		return &spec.InputError{Field: "--timeout", Err: fmt.Errorf("%s is not a time limit", g.timeout)}
	}
	if flags.Changed("out") {
		return nil
	}
	sp, err := spec.Load(dir)
	g.out = sp.Out
	return err
}

// noEmpty refuses flags with an empty value, as by a script's empty variable, but for the kernel's command line.
func noEmpty(flags *pflag.FlagSet) (err error) {
	flags.Visit(func(f *pflag.Flag) {
		if f.Value.Type() == "string" && f.Value.String() == "" && f.Name != "append" && err == nil {
			want, _ := pflag.UnquoteUsage(f)
			err = &spec.InputError{Field: "--" + f.Name, Err: fmt.Errorf(`"": want %s`, want)}
		}
	})
	return err
}

func (g *guest) addFlags(flags *pflag.FlagSet) {
	flags.SortFlags = false
	flags.StringVar(&g.out, "out", g.out, "boot the artifacts in `DIR`")
	flags.StringVar(&g.append, "append", "", "add `WORDS` to the kernel's command line")
	flags.TextVar(&g.memory, "memory", g.memory, "give the guest `SIZE` of memory")
	flags.IntVar(&g.cpus, "cpus", g.cpus, "give the guest `N` processors (default: 2, or 1 without KVM)")
	flags.DurationVar(&g.timeout, "timeout", 0,
		"give up when the boot, a command, or reaching a breakpoint takes longer than `TIME`, such as 90s\n"+
			"(default: 2m, or 10m without KVM; no limit for a command)")
	flags.StringVar(&g.splats, "splats", "",
		"take what the guest's kernel complains of (warnings, oopses, sanitizers' reports ...) "+
			"as `WHAT`:\nfail, warn, or allow (default: warn)")
}

func (a *app) console() *cobra.Command {
	return &cobra.Command{
		Use:   "console [GUEST]",
		Short: "Attach to the serial console of a guest of kimg debug or kimg ssh",
		Long: `Attach this terminal to the serial console of a guest that kimg debug or kimg ssh runs in
another one, beginning with its last output. Ctrl-a d detaches, Ctrl-a a types a Ctrl-a.
Several terminals may be attached at once.

Without a name it is the guest of this directory's build, or the only one there is.`,
		Args: atMost(1, ": want one guest"),
		RunE: func(cmd *cobra.Command, args []string) error {
			g, err := chooseGuest(vm.RunningGuests(), strings.Join(args, ""))
			if err != nil {
				return err
			}
			if terminal.Of(a.stdin).Is() {
				fmt.Fprintf(a.stderr, "kimg: guest %s; Ctrl-a d detaches\n", g.Name)
			}
			return vm.Attach(cmd.Context(), g, a.stdin, a.stdout)
		},
	}
}

// chooseGuest finds the guest of a name, or without a name the only one that can be meant.
func chooseGuest(list []vm.RunningGuest, name string) (vm.RunningGuest, error) {
	list = slices.DeleteFunc(list, func(g vm.RunningGuest) bool { return !g.Console })
	if len(list) == 0 {
		return vm.RunningGuest{}, &spec.InputError{Field: "console",
			Err: errors.New("no guest runs whose console is free: kimg debug and kimg ssh start one")}
	}
	fit := func(ok func(vm.RunningGuest) bool) []vm.RunningGuest {
		return slices.DeleteFunc(slices.Clone(list), func(g vm.RunningGuest) bool { return !ok(g) })
	}
	found := list
	if name != "" {
		found = fit(func(g vm.RunningGuest) bool { return g.Name == name })
	} else if len(list) > 1 {
		if sp, err := spec.Load("."); err == nil {
			if out, err := filepath.Abs(sp.Out); err == nil {
				if here := fit(func(g vm.RunningGuest) bool { return g.Out == out }); len(here) > 0 {
					found = here
				}
			}
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	var words strings.Builder
	for _, g := range list {
		fmt.Fprintf(&words, "\n%s  %s, for %s", g.Name, g.Out, time.Since(g.Since).Round(time.Second))
	}
	if name != "" {
		return vm.RunningGuest{}, &spec.InputError{Field: "console",
			Err: fmt.Errorf("there is no guest %q; there are%s", name, words.String())}
	}
	return vm.RunningGuest{}, &spec.InputError{Field: "console", Err: fmt.Errorf("which one?%s", words.String())}
}
