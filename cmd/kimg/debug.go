package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/internal/gdb"
	"github.com/kimg/kimg/internal/toolbox"
	"github.com/kimg/kimg/internal/vm"
	"github.com/spf13/cobra"
)

func (a *app) debug() *cobra.Command {
	req := debugRequest{guest: a.guest()}
	cmd := &cobra.Command{
		Use:   "debug [--break SYMBOL]...",
		Short: "Boot the last build under gdb",
		Long: `Boot the last build under gdb and give gdb's prompt to this terminal. With breakpoints
the guest runs until it reaches one of them; without, it is halted before its first
instruction. gdb knows this kernel's symbols, sources and scripts (lx-dmesg, lx-ps,
lx-symbols). Ctrl-C stops the guest; leaving gdb ends it.

Use kimg console in a second terminal for the serial console. Inside tmux it opens in a
pane below this one.

Breakpoints are looked up before anything boots. What the guest writes to its disk is
discarded, unless --snapshot is given: then its disk is checked at the end. Leaving gdb
is like pulling the guest's plug: only what it has written out is kept (sync, poweroff).
QEMU and gdb come from this machine, or from a container where one of them is not
installed.

With --replay NAME gdb goes to the end of a recording (kimg run --record), or to the call
that a panic or an oops came from, and from there backwards as well as forwards:
reverse-continue, reverse-step, reverse-finish, and watch to find out who wrote a variable.
The first replay of a recording takes some three times its length, later ones seconds.

With --record NAME it is this terminal that has the serial console, of a guest that is recorded
with what is typed. The end of its shell, a panic or Ctrl-a x ends it, and gdb comes as with
--replay.`,
		Example: `  kimg debug --break do_sys_openat2
  kimg debug --break fs/open.c:1435 --break vfs_read
  kimg debug --running                  # Ctrl-C to stop it and look around
  kimg debug --record crash --init sh   # its console; and then gdb, backwards from its end
  kimg debug --replay crash --ex 'watch jiffies' --ex reverse-continue
  kimg debug --break panic --ex backtrace --ex lx-dmesg --batch`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := req.find(cmd.Flags(), "."); err != nil {
				return err
			}
			if err := req.extras.parse(false); err != nil {
				return err
			}
			if err := checkBreaks(cmd, req.debugging.Breaks); err != nil {
				return err
			}
			if err := req.replay.check(cmd.Flags()); err != nil {
				return err
			}
			if err := req.record.check(cmd.Flags()); err != nil {
				return err
			}
			if err := req.checkRecord(cmd.Flags()); err != nil {
				return err
			}
			req.inContainer = req.replay.name != "" || req.record.name != ""
			return a.withEnv(func(env builder.Env, done func()) error {
				req.takeTerminal = done
				return a.actions.debug(cmd.Context(), env, req)
			})
		},
	}
	req.addFlags(cmd.Flags())
	cmd.Flags().StringArrayVar(&req.debugging.Breaks, "break", nil,
		"stop at `SYMBOL`, FILE:LINE or *ADDRESS (repeatable)")
	cmd.Flags().BoolVar(&req.debugging.Running, "running", false, "let the guest run, and do not halt it first")
	cmd.Flags().StringArrayVar(&req.debugging.Commands, "ex", nil,
		"have gdb run `COMMAND` once the guest has stopped (repeatable)")
	cmd.Flags().BoolVar(&req.debugging.Batch, "batch", false, "end gdb and the guest after the commands of --ex")
	cmd.Flags().BoolVar(&req.noTmux, "no-tmux", false, "open no pane with the serial console inside tmux")
	req.replay.addFlags(cmd.Flags())
	req.record.addFlags(cmd.Flags(),
		"record what is done at the serial console as `NAME`, and then go backwards from its end")
	req.extras.addFlags(cmd.Flags())
	req.extras.addCold(cmd.Flags())
	return cmd
}

func checkBreaks(cmd *cobra.Command, breaks []string) error {
	for _, at := range breaks {
		if err := gdb.CheckBreak(at); err != nil {
			return usageError{cmd, fmt.Errorf("--break: %w", err)}
		}
	}
	return nil
}

func debugGuest(ctx context.Context, env builder.Env, req debugRequest) error {
	if req.record.name != "" {
		if err := recordConsole(ctx, env, req); err != nil {
			return err
		}
		req.replay.name = req.record.name
	}
	if req.replay.name != "" {
		return replayGuest(ctx, env, req)
	}
	req.gdb = true
	o, err := req.options(ctx, env)
	defer req.closeEngine()
	if err != nil {
		return err
	}
	req.extras.apply(&o, nil)
	req.offerSSH(ctx, env, &req.extras, &o)
	req.keepLater(env, &o, string(vm.ForDebug))
	if err := req.showSource(ctx, env, &o); err != nil {
		return err
	}
	screen := req.handOver(&o, "\r\nkimg: %s\r\n")
	req.debugging.Attached = func(guest string) func() {
		o.Say("serial console: kimg console " + guest + " in another terminal; Ctrl-C stops the guest, quit ends it")
		close := func() {}
		if !req.noTmux && !req.debugging.Batch {
			close = openPane(guest)
		}
		screen.now(func() {})
		_ = req.interrupts() // gdb has the same Ctrl-C from the terminal
		return close
	}
	heard := req.watch(&o)
	return heard.tell(vm.Debug(ctx, o, req.debugging))
}

// showSource has a gdb in a container find the kernel's source.
func (g *guest) showSource(ctx context.Context, env builder.Env, o *vm.Options) (err error) {
	sandbox, ok := o.Toolbox.(toolbox.Container)
	if !ok {
		return nil
	}
	if sandbox.Source, err = builder.KernelSource(ctx, env, g.engine, g.out); err != nil {
		return err
	}
	if o.Toolbox = sandbox; len(sandbox.Source) == 0 {
		o.Say("the kernel's source is not kept, so gdb's list shows none; kimg build brings it back")
	}
	return nil
}

// openPane opens a pane of tmux, if kimg is in one, with the serial console of a guest.
func openPane(guest string) (close func()) {
	self, err := os.Executable()
	if err != nil || os.Getenv("TMUX") == "" {
		return func() {}
	}
	args := []string{"split-window", "-d", "-v", "-l", "40%", "-P", "-F", "#{pane_id}"}
	if pane := os.Getenv("TMUX_PANE"); pane != "" {
		args = append(args, "-t", pane)
	}
	if dir := os.Getenv("TMPDIR"); dir != "" {
		args = append(args, "-e", "TMPDIR="+dir)
	}
	out, err := exec.Command("tmux", append(args, self, "console", guest)...).Output()
	pane := strings.TrimSpace(string(out))
	if err != nil || pane == "" {
		return func() {}
	}
	return func() { _ = exec.Command("tmux", "kill-pane", "-t", pane).Run() } // it may have ended already
}
