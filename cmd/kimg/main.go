// Command kimg makes a kernel that can be single-stepped and the root
// filesystem that it boots. This package is flags, hints, exit codes and the
// terminal; what the commands do is in builder and internal/vm, and it must not
// know how.
package main

import (
	"context"
	"os"
	"slices"
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
