// Command kimg makes a kernel that can be single-stepped and the root filesystem that it boots. This package is
// flags, completion, hints, exit statuses and the terminal; what the commands do is in builder and internal/vm.
package main

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/kimg/kimg/internal/version"
)

func main() { os.Exit(kimg(os.Args[1:])) }

// kimg runs one command line and returns its exit status.
func kimg(args []string) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	sig := newSignals(cancel)
	go sig.watch()

	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, interrupts: sig.toGuest, actions: actions}
	root := a.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return a.report(ctx, err, (cmd.Name() == "run" || cmd.Name() == "ssh") && slices.Contains(args, "--"))
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print kimg's version",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.stdout, "kimg", version.String())
			return err
		},
	}
}
