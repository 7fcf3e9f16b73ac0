package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/vm"
	"github.com/spf13/cobra"
)

// snapshot needs neither an engine nor a guest.
func (a *app) snapshot() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "List and drop what guests wrote with run --snapshot",
		Args:  noCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	g := a.guest()
	ls := &cobra.Command{
		Use: "ls", Short: "List the snapshots of the last build", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := g.find(cmd.Flags(), "."); err != nil {
				return err
			}
			return listSnapshots(a.stdout, g.out)
		},
	}
	rm := &cobra.Command{
		Use: "rm NAME...", Short: "Drop snapshots", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, names []string) error {
			if len(names) == 0 {
				return usageError{cmd, errors.New("no snapshot is named: kimg snapshot ls lists them")}
			}
			if err := g.find(cmd.Flags(), "."); err != nil {
				return err
			}
			for _, name := range names {
				if err := vm.CheckSnapshotName(name); err != nil {
					return usageError{cmd, err}
				}
			}
			for _, name := range names {
				if err := vm.DropSnapshot(g.out, name); err != nil {
					return err
				}
			}
			return nil
		},
	}
	for _, c := range []*cobra.Command{ls, rm} {
		c.Flags().StringVar(&g.out, "out", g.out, "look in `DIR`")
		cmd.AddCommand(c)
	}
	return cmd
}

func listSnapshots(w io.Writer, out string) error {
	list, err := vm.Snapshots(out)
	if err != nil || len(list) == 0 {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tCHANGED\tTAKEN OF")
	for _, s := range list {
		of := artifact.Disk
		if s.Stale {
			of = "an earlier " + artifact.Disk
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", s.Name, s.Changed.Format(time.DateTime), of)
	}
	return t.Flush()
}
