package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kimg/kimg/internal/version"
)

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
