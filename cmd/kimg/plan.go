package main

import (
	"github.com/spf13/cobra"

	"github.com/kimg/kimg/builder"
)

func (a *app) plan() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Print what build would do, and why",
		Long: `Print each step that build would take, whether its result is there already and, if
not, what changed. Nothing is built. What the plan depends on may be
downloaded: package lists, and a kernel that is a version or a URL.`,
		Args: noArgs,
	}
	flags := addSpecFlags(cmd.Flags())
	flags.addLock()
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		spec, err := flags.spec(".")
		if err != nil {
			return err
		}
		return a.withEnv(func(env builder.Env, _ func()) error {
			return a.actions.plan(cmd.Context(), env, spec, a.stdout)
		})
	}
	return cmd
}
