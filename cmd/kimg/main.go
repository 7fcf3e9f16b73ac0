// Command kimg makes a kernel that can be single-stepped and the root filesystem that it boots. This package is
// flags, completion, hints, exit statuses and the terminal; what the commands do is in builder and internal/vm.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/kimg/kimg/internal/terminal"
	"github.com/kimg/kimg/internal/version"
	"github.com/spf13/cobra"
)

func main() { os.Exit(kimg(os.Args[1:])) }

// kimg runs one command line and returns its exit status.
func kimg(args []string) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	sig := &signals{cancel: cancel, restore: terminal.Of(os.Stdin).Save()}
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

// graceful bounds what is left of kimg after a second signal.
const graceful = 5 * time.Second

// signals ends kimg at the user's Ctrl-C and the system's SIGTERM and SIGHUP.
type signals struct {
	cancel  context.CancelFunc
	restore func() // gives stdin's terminal the settings that it had at the start

	mu    sync.Mutex
	guest chan os.Signal // gets SIGINT instead, once a guest runs a command
}

// toGuest sends every later SIGINT to the channel instead.
func (s *signals) toGuest() <-chan os.Signal {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.guest = make(chan os.Signal, 1)
	return s.guest
}

// passed reports whether sig was the guest's.
func (s *signals) passed(sig os.Signal) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sig != os.Interrupt || s.guest == nil {
		return false
	}
	select {
	case s.guest <- sig:
	default: // it has not taken the last one yet
	}
	return true
}

// watch cancels at the first signal: every part of kimg then cleans up, which takes a moment. A second one bounds
// that moment. What is left after it carries this process's name, and the next kimg removes it.
func (s *signals) watch() {
	// A reader of stdout or stderr that goes away must not kill kimg between making a container and removing it.
	// Caught and dropped rather than ignored: children would inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	got := make(chan os.Signal, 2)
	signal.Notify(got, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	next := func() {
		for sig := range got {
			if !s.passed(sig) {
				return
			}
		}
	}
	next()
	s.cancel()
	next()
	fmt.Fprintf(os.Stderr, "\nkimg: cleaning up (%s at most)\n", graceful)
	time.Sleep(graceful)
	s.restore()
	os.Exit(codeInterrupted)
}
