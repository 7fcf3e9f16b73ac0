package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/progress"
)

func (a *app) engine() *cobra.Command {
	return &cobra.Command{
		Use:   "engine",
		Short: "Print which container engine answers",
		Long: `Print which container engine kimg uses: the one that DOCKER_HOST or the Docker context
in use names, else the first of the usual sockets that answers. The exit status is 3
when none does.

Either may name an engine of another machine: DOCKER_HOST=ssh://USER@HOST has your ssh
run "docker system dial-stdio" there. It has to get in without a password.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			eng, err := container.Connect(cmd.Context())
			if err != nil {
				return err
			}
			defer eng.Close()
			info := eng.Info()
			for _, w := range info.Warnings {
				fmt.Fprintf(a.stderr, "warning: %s\n", progress.CleanText(w))
			}
			rights := "as root"
			if info.Rootless {
				rights = "rootless"
			}
			_, err = fmt.Fprintf(a.stdout, "%s %s (API %s), %s, %d processors, at %s\n",
				info.Name, info.Version, info.APIVersion, rights, info.CPUs, info.Host)
			return err
		},
	}
}

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
