package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/progress"
)

func (a *app) engine() *cobra.Command {
	return &cobra.Command{
		Use:   "engine",
		Short: "Print which container engine is used, and what the others lack",
		Long: `Print which container engine kimg uses, the others that there are, and what those
that do not work lack.

An engine that DOCKER_HOST or the Docker context in use names is used, else the first of
the usual sockets that answers this user, else the embedded engine: user namespaces,
without a daemon and without root. --engine, KIMG_ENGINE and engine: in kimg.yaml choose
between docker (and Podman) and embedded. The exit status is 3 when none can be used.

DOCKER_HOST may name an engine of another machine: DOCKER_HOST=ssh://USER@HOST has your
ssh run "docker system dial-stdio" there. It has to get in without a password.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := builder.CacheDir()
			if err != nil {
				return err
			}
			choice, err := a.engineChoice(dir)
			if err != nil {
				return err
			}
			found, err := choice.Look(cmd.Context())
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(found, func(f container.Found) bool { return f.Used }) {
				_, err := choice.Connect(cmd.Context())
				return err
			}
			return a.showEngines(found)
		},
	}
}

// showEngines prints the one that is used first, and then the others.
func (a *app) showEngines(found []container.Found) error {
	rank := func(f container.Found) int {
		switch {
		case f.Used:
			return 0
		case f.Err == nil:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(found, func(f, g container.Found) int { return cmp.Compare(rank(f), rank(g)) })
	for _, f := range found {
		if f.Err != nil {
			fmt.Fprintf(a.stdout, "cannot be used: %s: %s\n", f.Host, progress.CleanText(f.Err.Error()))
			if h := f.Hint(); h != "" {
				fmt.Fprintf(a.stdout, "  hint: %s\n", h)
			}
			continue
		}
		for _, w := range f.Info.Warnings {
			fmt.Fprintf(a.stderr, "warning: %s\n", progress.CleanText(w))
		}
		state := "could be used"
		if f.Used {
			state = "used"
		}
		fmt.Fprintf(a.stdout, "%s: %s, at %s\n", state, describeEngine(f.Info), f.Info.Host)
	}
	return nil
}

func describeEngine(info container.Info) string {
	name := strings.TrimSpace(info.Name + " " + info.Version)
	if info.APIVersion != "" {
		name += " (API " + info.APIVersion + ")"
	}
	return fmt.Sprintf("%s, %s, %d processors", name, info.Rights(), info.CPUs)
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
signed archive and write the locks that ship inside kimg. A target is locked for
engines of each architecture, TARGET@ARCH for those of one. It is run in a clone of
kimg's own repository, by those who maintain it.`,
		RunE: func(cmd *cobra.Command, targets []string) error {
			return a.withEnv(func(env builder.Env, _ func()) error {
				return a.actions.relock(cmd.Context(), env, targets)
			})
		},
	})
	return cmd
}
