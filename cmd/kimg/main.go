// Command kimg makes a kernel that can be single-stepped and the root
// filesystem that it boots. This package is flags, hints, exit codes and the
// terminal; what the commands do is in builder and internal/vm, and it must not
// know how.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"golang.org/x/term"
)

func main() { os.Exit(kimg(os.Args[1:])) }

// kimg runs one command line and returns its exit status.
func kimg(args []string) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go cancelOnSignals(cancel)

	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, actions: actions}
	root := a.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return a.report(ctx, err, cmd.Name() == "run" && slices.Contains(args, "--"))
}

// graceful bounds what is left of kimg after a second signal.
const graceful = 5 * time.Second

// cancelOnSignals cancels at the first signal: every part of kimg then takes
// away what it made, which takes a moment. A second one bounds that moment. What
// is still there after it carries this process's name, and the next kimg removes it.
func cancelOnSignals(cancel context.CancelFunc) {
	// A reader of stdout or stderr that goes away must not kill kimg between making
	// a container and removing it. Caught and dropped rather than ignored: children
	// would inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	before, _ := term.GetState(int(os.Stdin.Fd())) // nil: not a terminal
	got := make(chan os.Signal, 2)
	signal.Notify(got, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	<-got
	cancel()
	<-got
	fmt.Fprintf(os.Stderr, "\nkimg: taking away what was begun, for %s at most\n", graceful)
	time.Sleep(graceful)
	if before != nil {
		_ = term.Restore(int(os.Stdin.Fd()), before) // the process ends: nothing else can be done
	}
	os.Exit(codeInterrupted)
}
