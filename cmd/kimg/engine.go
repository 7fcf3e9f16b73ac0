package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/terminal"
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

func (a *app) toolchainRun() *cobra.Command {
	req := builder.ToolCommand{Out: spec.Default().Out, Dir: ".", Stdin: a.stdin, Stdout: a.stdout, Stderr: a.stderr}
	cmd := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARG...]",
		Short: "Compile programs of your own for the guest",
		Long: `Run a command in a container of the toolchain that the build's kernel was compiled with,
which also has the C library of its architecture. The command gets a copy of this
directory, without the build and .git, and what it makes or changes there is put here
when it has ended, also where it failed; what it removes stays. It is no root, has no
network, and its environment has CC, CROSS_COMPILE and ARCH.

The exit status is the command's; if kimg itself fails, it is 125.`,
		Example: `  kimg toolchain run -- sh -c '$CC -O2 -static -o probe probe.c'
  kimg run --share .:/src -- /src/probe

  kimg toolchain run -- make`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if req.Args, err = guestCommand(cmd, args); err != nil {
				return err
			}
			if len(req.Args) == 0 {
				return usageError{cmd, errors.New("a command is missing: it comes after --")}
			}
			if err := noEmpty(cmd.Flags()); err != nil {
				return err
			}
			if !cmd.Flags().Changed("out") {
				sp, err := spec.Load(".")
				if err != nil {
					return err
				}
				req.Out = sp.Out
			}
			if a.progressMode == "auto" && !terminal.Of(a.stderr).Is() {
				a.progressMode = "quiet" // stderr is the command's
			}
			return a.withEnv(func(env builder.Env, _ func()) error {
				status, err := a.actions.tool(cmd.Context(), env, req)
				if err == nil && status != 0 {
					return guestStatus(status)
				}
				return noBuild(err)
			})
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().StringVar(&req.Out, "out", req.Out, "take the toolchain of the build in `DIR`")
	return cmd
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
	}, a.toolchainRun(), &cobra.Command{
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
