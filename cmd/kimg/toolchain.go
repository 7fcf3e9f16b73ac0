package main

import (
	"github.com/spf13/cobra"

	"github.com/kimg/kimg/builder"
)

func (a *app) toolchain() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "toolchain",
		Short: "Show and renew the compilers that kernels are built with",
		Args:  noCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "ls",
		Short: "List which kernels are built with which compiler, and why",
		Args:  noArgs,
		RunE:  func(*cobra.Command, []string) error { return a.actions.list(a.stdout) },
	}, &cobra.Command{
		Use:   "relock [TARGET...]",
		Short: "Pin the toolchains' packages to what the archive has today",
		Long: `Resolve the packages of each toolchain (all of them, or those named) anew from the
signed archive and write the locks that ship inside kimg. It is run in a clone of
kimg's own repository, by those who maintain it.`,
		RunE: func(cmd *cobra.Command, targets []string) error {
			return a.withEnv(func(env builder.Env, _ func()) error {
				return a.actions.relock(cmd.Context(), env, targets)
			})
		},
	})
	return cmd
}
