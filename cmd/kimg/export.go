package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/image/export"
	"github.com/kimg/kimg/internal/terminal"
	"github.com/spf13/cobra"
)

func (a *app) export() *cobra.Command {
	req := builder.ExportRequest{Out: spec.Default().Out}
	to := ""
	cmd := &cobra.Command{
		Use:   "export --to FORMAT [FILE]",
		Short: "Hand the last build to other tools",
		Long: `Write the artifacts of the last build to FILE in a form that other tools take. The
name is printed to stdout; without FILE it is the format's usual name, in the current
directory. With - the export itself goes to stdout.

` + formatHelp() + `

A tar (tar, oci, bundle) is compressed if the name FILE ends in .gz or .zst. The same
artifacts give the same bytes. An existing FILE is replaced only with --force, and only
once the new one is complete.`,
		Example: `  kimg export --to qcow2
  kimg export --to oci - | docker load
  kimg export --to vmdk --bootable
  kimg export --to tar rootfs.tar.zst
  kimg export --to bundle lab1.tar.zst`,
		Args: atMost(1, ""),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.readExport(cmd, &req, to, args); err != nil {
				return err
			}
			if !cmd.Flags().Changed("out") {
				sp, err := spec.Load(".")
				if err != nil {
					return err
				}
				req.Out = sp.Out
			}
			err := a.withEnv(func(env builder.Env, _ func()) error { return a.actions.export(cmd.Context(), env, req) })
			if err == nil && req.Stream == nil {
				_, err = fmt.Fprintln(a.stdout, req.File)
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&to, "to", "", "write it as `FORMAT`: "+strings.Join(export.Names(), ", "))
	flags.StringVar(&req.Out, "out", req.Out, "take the artifacts in `DIR`")
	flags.BoolVar(&req.Force, "force", false, "replace FILE")
	flags.BoolVar(&req.Options.Compress, "compress", false, "compress within the format (qcow2)")
	flags.BoolVar(&req.Options.Bootable, "bootable", false,
		"make it a disk that UEFI boots, with the kernel and a loader (raw, qcow2, vhd, vmdk)")
	return cmd
}

func (a *app) readExport(cmd *cobra.Command, req *builder.ExportRequest, to string, args []string) (err error) {
	if to == "" {
		return usageError{cmd, errors.New("no format: name one with --to")}
	}
	if req.Format, err = export.Find(to); err != nil {
		return &spec.InputError{Field: "--to", Err: err}
	}
	if req.Options.Compress && !req.Format.Compresses {
		err := fmt.Errorf("%s has no compression of its own", to)
		if req.Format.Packs {
			err = fmt.Errorf("%w: end FILE in .gz or .zst", err)
		}
		return &spec.InputError{Field: "--compress", Err: err}
	}
	if req.Options.Bootable && !req.Format.Boots {
		return &spec.InputError{Field: "--bootable", Err: fmt.Errorf("%s is no disk: want raw, qcow2, vhd or vmdk", to)}
	}
	switch {
	case len(args) == 0:
		req.File = req.Format.File
	case args[0] == "":
		return usageError{cmd, errors.New("FILE is empty")}
	case args[0] == "-":
		if !req.Format.Text && terminal.Of(a.stdout).Is() {
			return usageError{cmd, fmt.Errorf("%s is not written to a terminal: name a FILE, or redirect stdout", to)}
		}
		req.Stream = a.stdout
	default:
		req.File = args[0]
	}
	return nil
}

// formatHelp lists the formats as the table has them. Four blanks make it a block of its own in docs/cli.md.
func formatHelp() string {
	var b strings.Builder
	for _, k := range export.Formats {
		fmt.Fprintf(&b, "    %-11s  %-19s  %s\n", k.Name, k.File, k.About)
	}
	return strings.TrimRight(b.String(), "\n")
}
