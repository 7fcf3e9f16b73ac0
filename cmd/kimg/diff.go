package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kimg/kimg/builder/compare"
	"github.com/kimg/kimg/internal/progress"
	"github.com/spf13/cobra"
)

func (a *app) diff() *cobra.Command {
	var asJSON, all bool
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Show how two builds differ, and the likely causes",
		Long: `Compare two builds (their out directories), or two files: images, kernels (vmlinux,
bzImage), locks, configs. Each difference is shown with the part of the artifact that
it is in - a section or symbol of vmlinux, a file, inode field, time or superblock
field of the image - and with its likely cause. Nothing is written and no container is
needed.

The exit status is 0 when both are the same, byte for byte, and 7 when they differ. What
the manifests record about where and when each build ran is not a difference, but noted.`,
		Example: `  kimg diff kimg-out other-out
  kimg diff --all kimg-out/rootfs.img other-out/rootfs.img
  kimg diff --json kimg-out other-out | jq '.differences[].cause'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usageError{cmd, fmt.Errorf("want two builds or files to compare, got %d", len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := compareTwo(cmd, args[0], args[1])
			if err != nil {
				return err
			}
			return a.showReport(r, asJSON, all)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the whole report as JSON")
	cmd.Flags().BoolVar(&all, "all", false, "print every difference, not only the first ones of each artifact")
	return cmd
}

func compareTwo(cmd *cobra.Command, a, b string) (*compare.Report, error) {
	x, err := os.Stat(a)
	if err != nil {
		return nil, usageError{cmd, err}
	}
	y, err := os.Stat(b)
	if err != nil {
		return nil, usageError{cmd, err}
	}
	if x.IsDir() != y.IsDir() {
		return nil, usageError{cmd, fmt.Errorf("one of %s and %s is a directory, the other is not", a, b)}
	}
	if x.IsDir() {
		return compare.Dirs(cmd.Context(), a, b)
	}
	return compare.Files(cmd.Context(), filepath.Base(a), a, b)
}

// differs reports that a comparison found differences, which have been printed.
type differs struct{ a, b string }

func (d differs) Error() string { return fmt.Sprintf("%s and %s differ", d.a, d.b) }

// showReport prints a report and returns differs where there are differences.
func (a *app) showReport(r *compare.Report, asJSON, all bool) error {
	if asJSON {
		if err := a.printJSON("report", struct {
			Same bool `json:"same"`
			*compare.Report
		}{r.Same(), r}); err != nil {
			return err
		}
	} else if _, err := a.stdout.WriteString(reportText(r, all)); err != nil {
		return fmt.Errorf("print report: %w", err)
	}
	if !r.Same() {
		return differs{r.A, r.B}
	}
	return nil
}

// fewDifferences is how many of an artifact's are shown without --all.
const fewDifferences = 12

// reportText is a report for users to read: by artifact, then what the causes mean.
func reportText(r *compare.Report, all bool) string {
	var b strings.Builder
	if r.Same() {
		but := ""
		if len(r.Notes) > 0 { // about files that describe the build
			but = ", except for the notes"
		}
		fmt.Fprintf(&b, "%s and %s are the same, byte for byte%s\n", progress.Clean(r.A), progress.Clean(r.B), but)
		noteText(&b, r)
		return b.String()
	}
	fmt.Fprintf(&b, "A  %s\nB  %s\n", progress.Clean(r.A), progress.Clean(r.B))
	for _, g := range groups(r.Differences) {
		fmt.Fprintf(&b, "\n%s: %s\n", progress.Clean(g[0].Artifact), plural(len(g), "difference"))
		shown := g
		if !all {
			shown = mostTelling(g, fewDifferences)
		}
		for _, d := range shown {
			b.WriteString(differenceText(d))
		}
		if more := len(g) - len(shown); more > 0 {
			fmt.Fprintf(&b, "  and %d more (--all)\n", more)
		}
	}
	if r.Dropped > 0 {
		fmt.Fprintf(&b, "\n%s more left out: there are too many\n", plural(r.Dropped, "difference"))
	}
	b.WriteString("\nLikely causes:\n")
	n := r.Causes()
	for _, c := range compare.Causes {
		if n[c.Cause] > 0 {
			fmt.Fprintf(&b, "  %-9s %6d  %s\n", c.Cause, n[c.Cause], c.Text)
		}
	}
	if n[""] > 0 {
		fmt.Fprintf(&b, "  %-9s %6d  no cause is known\n", "-", n[""])
	}
	noteText(&b, r)
	return b.String()
}

func noteText(b *strings.Builder, r *compare.Report) {
	for _, note := range r.Notes {
		fmt.Fprintf(b, "note: %s\n", progress.Clean(note))
	}
}

func groups(l []compare.Difference) [][]compare.Difference {
	var out [][]compare.Difference
	at := map[string]int{}
	for _, d := range l {
		i, ok := at[d.Artifact]
		if !ok {
			i = len(out)
			at[d.Artifact] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], d)
	}
	return out
}

// mostTelling chooses n differences in their order: one of each cause, then the first that follow from nothing.
func mostTelling(l []compare.Difference, n int) []compare.Difference {
	if len(l) <= n {
		return l
	}
	seen := map[compare.Cause]bool{}
	rank := make([]int, len(l))
	index := make([]int, len(l))
	for i, d := range l {
		index[i], rank[i] = i, 1
		switch {
		case !seen[d.Cause]:
			rank[i] = 0
		case d.Cause == compare.Follows || d.Cause == compare.Layout:
			rank[i] = 2
		}
		seen[d.Cause] = true
	}
	slices.SortStableFunc(index, func(i, j int) int { return cmp.Compare(rank[i], rank[j]) })
	index = index[:n]
	slices.Sort(index)
	out := make([]compare.Difference, 0, n)
	for _, i := range index {
		out = append(out, l[i])
	}
	return out
}

// lineWidth is how long a difference on one line may be.
const lineWidth = 100

func differenceText(d compare.Difference) string {
	cause := cmp.Or(d.Cause, "-")
	where, x, y := progress.Clean(d.Where), shown(d.A), shown(d.B)
	if len(where)+len(x)+len(y) <= lineWidth {
		return fmt.Sprintf("  %-9s %s: %s -> %s\n", cause, where, x, y)
	}
	return fmt.Sprintf("  %-9s %s\n              A  %s\n              B  %s\n", cause, where, x, y)
}

func shown(value string) string { return progress.Clean(cmp.Or(value, "(none)")) }

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
