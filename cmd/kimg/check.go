package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/kimg/kimg/builder"
)

func (a *app) check() *cobra.Command {
	req := checkRequest{guest: a.guest()}
	cmd := &cobra.Command{
		Use:   "check --break SYMBOL...",
		Short: "Boot the last build, stop at breakpoints, print the backtraces",
		Long: `Boot the last build under gdb, once for each breakpoint, and print the backtrace of
where it stopped. The exit status is 0 only if all of them were hit. Nobody needs to
watch: this is for CI.

QEMU and gdb come from this machine, or from a container where one of them is not
installed.`,
		Example: `  kimg check --break do_sys_open
  kimg check --break do_sys_openat2 --break vfs_read --timeout 5m`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(req.breaks) == 0 {
				return usageError{cmd, errors.New("nothing to check: name a symbol with --break")}
			}
			if err := req.find(cmd.Flags(), "."); err != nil {
				return err
			}
			return a.withEnv(func(env builder.Env, done func()) error {
				req.takeTerminal = done
				return a.actions.check(cmd.Context(), env, req)
			})
		},
	}
	cmd.Flags().StringArrayVar(&req.breaks, "break", nil, "stop at `SYMBOL` or FILE:LINE (repeatable)")
	req.addFlags(cmd.Flags())
	return cmd
}
