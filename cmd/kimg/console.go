package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/internal/terminal"
	"github.com/kimg/kimg/internal/vm"
	"github.com/spf13/cobra"
)

func (a *app) console() *cobra.Command {
	return &cobra.Command{
		Use:   "console [GUEST]",
		Short: "Attach to the serial console of a guest of kimg debug or kimg ssh",
		Long: `Attach this terminal to the serial console of a guest that kimg debug or kimg ssh runs in
another one, beginning with its last output. Ctrl-a d detaches, Ctrl-a a types a Ctrl-a.
Several terminals may be attached at once.

Without a name it is the guest of this directory's build, or the only one there is.`,
		Args: atMost(1, ": want one guest"),
		RunE: func(cmd *cobra.Command, args []string) error {
			g, err := chooseGuest(vm.RunningGuests(), strings.Join(args, ""))
			if err != nil {
				return err
			}
			if terminal.Of(a.stdin).Is() {
				fmt.Fprintf(a.stderr, "kimg: guest %s; Ctrl-a d detaches\n", g.Name)
			}
			return vm.Attach(cmd.Context(), g, a.stdin, a.stdout)
		},
	}
}

// chooseGuest finds the guest of a name, or without a name the only one that can be meant.
func chooseGuest(list []vm.RunningGuest, name string) (vm.RunningGuest, error) {
	list = slices.DeleteFunc(list, func(g vm.RunningGuest) bool { return !g.Console })
	if len(list) == 0 {
		return vm.RunningGuest{}, &spec.InputError{Field: "console",
			Err: errors.New("no guest runs whose console is free: kimg debug and kimg ssh start one")}
	}
	fit := func(ok func(vm.RunningGuest) bool) []vm.RunningGuest {
		return slices.DeleteFunc(slices.Clone(list), func(g vm.RunningGuest) bool { return !ok(g) })
	}
	found := list
	if name != "" {
		found = fit(func(g vm.RunningGuest) bool { return g.Name == name })
	} else if len(list) > 1 {
		if sp, err := spec.Load("."); err == nil {
			if out, err := filepath.Abs(sp.Out); err == nil {
				if here := fit(func(g vm.RunningGuest) bool { return g.Out == out }); len(here) > 0 {
					found = here
				}
			}
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	var words strings.Builder
	for _, g := range list {
		fmt.Fprintf(&words, "\n%s  %s, for %s", g.Name, g.Out, time.Since(g.Since).Round(time.Second))
	}
	if name != "" {
		return vm.RunningGuest{}, &spec.InputError{Field: "console",
			Err: fmt.Errorf("there is no guest %q; there are%s", name, words.String())}
	}
	return vm.RunningGuest{}, &spec.InputError{Field: "console", Err: fmt.Errorf("which one?%s", words.String())}
}
