package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/builder/outdir"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/terminal"
	"github.com/spf13/cobra"
)

func (a *app) build() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Build the kernel and the root filesystem",
		Long: `Build the kernel and the root filesystem, and put them into the out directory:
bzImage (Image on arm64 and riscv64, zImage on ppc64el), vmlinux, System.map, config, rootfs.img,
the kernel's gdb scripts, kimg.lock (what exactly was used), manifest.json (what was made from what),
and the same for other tools: provenance.json (SLSA) and sbom.spdx.json (SPDX).

What has not changed is not built again. An interrupted build leaves the files of
the last one intact. The paths of the artifacts are printed to stdout; scripts/gdb is
one of them.`,
		Example: `  kimg build
  kimg build --kernel 4.20.6 --suite bionic
  kimg build --kernel ~/src/linux --config vm --set KASAN=y
  kimg build --suite bookworm --size 2G --include openssh-server,strace
  kimg build --arch arm64 --config vm
  kimg build --lock kimg.lock     # the same bits as where the lock was written`,
		Args: noArgs,
	}
	flags := addSpecFlags(cmd.Flags())
	flags.addLock()
	signing := addSignFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		sp, err := flags.spec(".")
		if err != nil {
			return err
		}
		key, err := signing.read(a, sp)
		if err != nil {
			return err
		}
		var m *outdir.Manifest
		err = a.withEnv(func(env builder.Env, _ func()) error {
			env.Sign, env.Ask = key, a.asker(env.Sink)
			if m, err = a.actions.build(cmd.Context(), env, sp); err == nil {
				a.trim(cmd.Context(), env)
			}
			return err
		})
		if err != nil {
			return err
		}
		for _, name := range m.Tops() {
			fmt.Fprintln(a.stdout, filepath.Join(sp.Out, filepath.FromSlash(name)))
		}
		return nil
	}
	return cmd
}

// asker asks on the terminal, with the progress off the screen meanwhile; nil: there is nobody to ask.
func (a *app) asker(sink builder.Sink) func(context.Context, string) (bool, error) {
	shown, ok := sink.(progress.Renderer)
	if !ok || !terminal.Of(a.stdin).Is() || !terminal.Of(a.stderr).Is() {
		return nil
	}
	return func(ctx context.Context, question string) (yes bool, err error) {
		shown.Aside(func() { yes, err = ask(ctx, a.stdin, a.stderr, question) })
		return yes, err
	}
}

// ask puts a question that only yes answers with yes. The end of ctx ends it, though not the read.
func ask(ctx context.Context, from io.Reader, to io.Writer, question string) (bool, error) {
	fmt.Fprintf(to, "%s [y/N] ", question)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(from).ReadString('\n') // what cannot be read is no yes
		answer <- line
	}()
	select {
	case line := <-answer:
		if !strings.HasSuffix(line, "\n") {
			fmt.Fprintln(to)
		}
		return slices.Contains([]string{"y", "yes"}, strings.ToLower(strings.TrimSpace(line))), nil
	case <-ctx.Done():
		fmt.Fprintln(to)
		return false, context.Cause(ctx)
	}
}

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
