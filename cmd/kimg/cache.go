package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/builder/keep"
	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/units"
	guests "github.com/kimg/kimg/internal/vm/kept"
	"github.com/spf13/cobra"
)

func (a *app) cache() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "Show what kimg keeps, and free it",
		Long: `Show what kimg keeps in its cache directory and in the container engine, with sizes and
when it was last used: downloads and results (the store), records of steps, package
lists, logs, volumes with sources and objects, toolchain images, and the like. STAYS is how
much of it prune never removes; --json says why.

What has not been used for 30 days is removed automatically: after a build, at most once a
day.`,
		Example: "  kimg cache\n  kimg cache --json | jq '.items[] | select(.size > 1e9)'\n  kimg cache prune --to 20G",
		Args:    noCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			kept, err := a.listKept(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON("what is kept", kept)
			}
			return a.showKept(kept)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each thing as JSON")
	cmd.AddCommand(a.cachePrune())
	return cmd
}

func (a *app) cachePrune() *cobra.Command {
	age := days(keep.Unused)
	var to units.Size
	var all, dryRun bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove what has not been used for long",
		Long: `Remove what kimg keeps and has not used for 30 days, or as the flags say. It is made or
downloaded again when it is needed.

What an out directory's manifest or lock names stays in the store, also with --all: without
it the build could not be made again once the mirrors have moved on. Remove the out
directory first. What a running kimg may need stays, and so do the snapshots of guests
(kimg snapshot rm drops them) and volumes of another cache directory.`,
		Example: "  kimg cache prune --dry-run\n  kimg cache prune --older 7d\n  kimg cache prune --to 20G\n" +
			"  kimg cache prune --all",
		Args: noArgs,
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.Var(&age, "older", "remove what has not been used for `AGE`, such as 12h or 7d")
	flags.TextVar(&to, "to", to, "remove the least recently used, until no more than `SIZE` is kept")
	flags.BoolVar(&all, "all", false, "remove everything that is not needed, however recently it was used")
	flags.BoolVar(&dryRun, "dry-run", false, "print what would be removed, and remove nothing")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if all && (flags.Changed("older") || flags.Changed("to")) {
			return usageError{cmd, errors.New("--all cannot be combined with --older or --to")}
		}
		o := keep.Options{Older: time.Duration(age), To: -1, DryRun: dryRun, Shared: all}
		if flags.Changed("to") {
			o.To = int64(to)
		}
		if all || flags.Changed("to") && !flags.Changed("older") {
			o.Older = 0
		}
		kept, err := a.listKept(cmd.Context())
		if err != nil {
			return err
		}
		taken, err := kept.Prune(cmd.Context(), o)
		a.showTaken(kept, taken, dryRun)
		return err
	}
	return cmd
}

// listKept lists what the cache directory and, where one answers, the engine have.
func (a *app) listKept(ctx context.Context) (*keep.Kept, error) {
	dir, err := builder.CacheDir()
	if err != nil {
		return nil, err
	}
	choice, err := a.engineChoice(dir)
	if err != nil {
		return nil, err
	}
	eng, err := choice.Connect(ctx)
	if err != nil {
		return keep.List(ctx, dir, nil, err)
	}
	if eng.Info().Name != container.EmbeddedEngine {
		a.sayEmbedded(choice.Dir)
	}
	return keep.List(ctx, dir, eng, nil)
}

// sayEmbedded says that the embedded engine has kept something, which is listed only where it is the one in use.
func (a *app) sayEmbedded(dir string) {
	if kept, err := filepath.Glob(filepath.Join(dir, "*", "images", "*")); err == nil && len(kept) > 0 {
		fmt.Fprintf(a.stderr, "for what the embedded engine keeps in %s: --engine embedded\n", progress.Clean(dir))
	}
}

// keepEngine connects to the engine. Nothing is lost with a connection that is not closed before the process ends.
func keepEngine(choice container.Choice) func(context.Context) (keep.Engine, error) {
	return func(ctx context.Context) (keep.Engine, error) {
		eng, err := choice.Connect(ctx)
		if err != nil {
			return nil, err
		}
		return eng, nil
	}
}

func (a *app) showKept(kept *keep.Kept) error {
	t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NUMBER\tKIND\tSIZE\tSTAYS\tLAST USED")
	var all keep.Sum
	for _, s := range keep.Sums(kept.Items) {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\n", s.Number, s.Kind, humanSize(s.Size), humanSize(s.Stays),
			s.Used.Format(time.DateTime))
		all.Number, all.Size, all.Stays = all.Number+s.Number, all.Size+s.Size, all.Stays+s.Stays
	}
	fmt.Fprintf(t, "%d\tin all\t%s\t%s\t\n", all.Number, humanSize(all.Size), humanSize(all.Stays))
	if err := t.Flush(); err != nil {
		return err
	}
	where := progress.Clean(kept.Dir)
	if kept.NoEngine == "" {
		where += " and the container engine"
	}
	fmt.Fprintf(a.stderr, "in %s\n", where)
	for _, m := range guests.Store(filepath.Join(kept.Dir, guestsDir)).Makers() {
		fmt.Fprintf(a.stderr, "process %d boots a guest to keep it, since %s\n", m.PID, m.Began.Format(time.TimeOnly))
	}
	a.sayNoEngine(kept)
	return nil
}

func (a *app) showTaken(kept *keep.Kept, taken []keep.Item, dryRun bool) {
	t := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	var size int64
	for _, s := range keep.Sums(taken) {
		fmt.Fprintf(t, "%d\t%s\t%s\n", s.Number, s.Kind, humanSize(s.Size))
		size += s.Size
	}
	_ = t.Flush() // the exit status is the prune's
	what := "freed"
	if dryRun {
		what = "would free"
	}
	fmt.Fprintf(a.stderr, "%s %s\n", what, humanSize(size))
	a.sayNoEngine(kept)
}

func (a *app) sayNoEngine(kept *keep.Kept) {
	if kept.NoEngine != "" {
		fmt.Fprintf(a.stderr, "volumes and images were not looked at: %s\n", progress.CleanText(kept.NoEngine))
	}
}

func humanSize(n int64) string { return units.Size(n).Human() }

func trimCache(ctx context.Context, env builder.Env) ([]keep.Item, error) {
	return keep.Trim(ctx, env.Cache, keepEngine(env.Engine))
}

// trim frees what was not used for long, after a build that went well. It is no matter of the build's.
func (a *app) trim(ctx context.Context, env builder.Env) {
	if a.actions.trim == nil {
		return
	}
	taken, err := a.actions.trim(ctx, env)
	if err != nil && ctx.Err() == nil {
		progress.Warn(env.Sink, err.Error())
	}
	var size int64
	for _, s := range keep.Sums(taken) {
		size += s.Size
	}
	if size > 0 {
		progress.Say(env.Sink, "freed "+humanSize(size)+" of what was not used for 30 days: see kimg cache")
	}
}

// days is a duration that may be given in days.
type days time.Duration

func (d *days) String() string {
	if day := 24 * time.Hour; time.Duration(*d)%day == 0 {
		return strconv.Itoa(int(time.Duration(*d)/day)) + "d"
	}
	return time.Duration(*d).String()
}

func (d *days) Set(s string) error {
	v, err := time.ParseDuration(s)
	if n, ok := strings.CutSuffix(s, "d"); ok {
		var count uint64
		count, err = strconv.ParseUint(n, 10, 16)
		v = time.Duration(count) * 24 * time.Hour
	}
	if err != nil || v < 0 {
		return errors.New("want an age such as 12h or 30d")
	}
	*d = days(v)
	return nil
}

func (d *days) Type() string { return "age" }
