package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/builder/attest"
	"github.com/kimg/kimg/builder/compare"
	"github.com/kimg/kimg/builder/outdir"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/internal/progress"
	"github.com/spf13/cobra"
)

type verifyTable struct {
	check   func(ctx context.Context, dir string, keys []*attest.PublicKey) (*outdir.Verified, error)
	sign    func(context.Context, builder.Env, string) (*outdir.Verified, error)
	rebuild func(context.Context, builder.Env, builder.RebuildRequest) (*compare.Report, error)
}

func (a *app) verify() *cobra.Command {
	var req builder.RebuildRequest
	var rebuild, asJSON, all bool
	var keyFiles []string
	cmd := &cobra.Command{
		Use:   "verify [DIR]",
		Short: "Check a build against its manifest, or build it again and compare",
		Long: `Read every artifact of a build (the last one, or that in DIR), its lock, its manifest, its
provenance and its SBOM, and compare them with each other. Whatever is missing, changed, or
not a plain file is reported.

With --key the build must also be signed by that key, or by one of several. The signature
covers the provenance, and through it the artifacts and everything they were made from.

With --rebuild it is then built again from its lock, reusing nothing that was made or
compiled before, and the two builds are compared; the differences and their likely causes
are reported as by kimg diff. Downloads and toolchain images are reused by their digests.
The second build is removed, unless --keep is given.

The exit status is 7 if anything has changed.`,
		Example: `  kimg verify
  kimg verify --key release.pub ./kimg-out
  kimg verify --rebuild
  kimg verify --json ./kimg-out`,
		Args: atMost(1, ""),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !rebuild && (req.Keep != "" || req.Kernel != "" || req.Jobs != 0 || req.Privileged) {
				return usageError{cmd, errors.New("--keep, --kernel, --jobs and --privileged need --rebuild")}
			}
			sp, err := spec.Load(".")
			if err != nil {
				return err
			}
			if req.Dir = sp.Out; len(args) == 1 {
				req.Dir = args[0]
			}
			var keys []*attest.PublicKey
			for _, file := range keyFiles {
				key, err := attest.ReadPublicKey(file)
				if err != nil {
					return err
				}
				keys = append(keys, key)
			}
			v, err := a.actions.verify.check(cmd.Context(), req.Dir, keys)
			if err != nil {
				return noBuild(err)
			}
			if err := a.showVerified(v, asJSON); err != nil || !rebuild {
				return err
			}
			return a.withEnv(func(env builder.Env, done func()) error {
				r, err := a.actions.verify.rebuild(cmd.Context(), env, req)
				if err != nil {
					return err
				}
				done()
				return a.showReport(r, asJSON, all)
			})
		},
	}
	cmd.Flags().StringArrayVar(&keyFiles, "key", nil,
		"require a signature by the public key in `FILE` (repeatable: by one of them)")
	cmd.Flags().BoolVar(&rebuild, "rebuild", false, "build it again from its lock and compare")
	cmd.Flags().StringVar(&req.Keep, "keep", "", "keep the second build in `DIR`")
	cmd.Flags().StringVar(&req.Kernel, "kernel", "", "the directory or tarball of the locked kernel is now at `PATH`")
	cmd.Flags().IntVar(&req.Jobs, "jobs", 0, "compile with `N` jobs (default: one a processor)")
	cmd.Flags().BoolVar(&req.Privileged, "privileged", false,
		"bootstrap in a fully privileged container, for engines that need it; what the manifest says of it is ignored")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what was found as JSON")
	cmd.Flags().BoolVar(&all, "all", false, "print every difference, not only the first ones of each artifact")
	return cmd
}

type noBuildError struct{ err error }

func (e *noBuildError) Error() string { return "there is no build: " + e.err.Error() }
func (e *noBuildError) Unwrap() error { return e.err }

func (e *noBuildError) Hint() string { return "run kimg build first, or name the directory of a build" }

func noBuild(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &noBuildError{err}
	}
	return err
}

// faulty is a build that has changed. What was found has been printed.
type faulty struct{ dir string }

func (f faulty) Error() string { return f.dir + " has changed since it was built" }

func (a *app) showVerified(v *outdir.Verified, asJSON bool) error {
	w := a.stdout
	if asJSON {
		if err := a.printJSON("what was found", v); err != nil {
			return err
		}
	} else {
		for _, f := range v.Faults {
			fmt.Fprintf(w, "%s: %s\n", progress.Clean(f.Path), progress.Clean(f.What))
		}
		if len(v.Faults) == 0 {
			fmt.Fprintf(w, "%s: %d files are unchanged\n", progress.Clean(v.Dir), v.Checked)
			for _, s := range v.SignedBy {
				fmt.Fprintf(w, "%s: signed with %s (%s %s)\n",
					progress.Clean(v.Dir), progress.Clean(s.Key), s.Type, s.ID)
			}
		} else {
			fmt.Fprintf(w, "%s: %s in %d files\n", progress.Clean(v.Dir), plural(len(v.Faults), "fault"), v.Checked)
		}
		for _, n := range v.Notes {
			fmt.Fprintf(w, "note: %s\n", progress.Clean(n))
		}
	}
	if len(v.Faults) > 0 {
		return faulty{v.Dir}
	}
	return nil
}
