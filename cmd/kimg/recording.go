package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/renameio/v2"
	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/checks"
	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/recording"
	"github.com/kimg/kimg/internal/units"
	"github.com/kimg/kimg/internal/vm"
	"github.com/kimg/kimg/internal/vm/replay"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// recordFlags are those of a run that is recorded.
type recordFlags struct {
	name      string // empty: it is not
	apicTimer bool
}

func (f *recordFlags) addFlags(flags *pflag.FlagSet, does string) {
	flags.StringVar(&f.name, "record", "", does)
	flags.BoolVar(&f.apicTimer, "record-apic-timer", false,
		"with --record, keep the own timer of amd64's processor: a log of 20 times the size;\n"+
			"without, the guest has noapictimer")
}

func (f *recordFlags) check(flags *pflag.FlagSet) error {
	if f.name == "" {
		if f.apicTimer {
			return &spec.InputError{Field: "--record-apic-timer", Err: errors.New("want --record too")}
		}
		return nil
	}
	if err := recording.CheckName(f.name); err != nil {
		return &spec.InputError{Field: "--record", Err: err}
	}
	return nil
}

// exec runs the command in the guest, and records it where that was asked for.
func (req *runRequest) exec(ctx context.Context, o vm.Options) (status int, err error) {
	if req.record.name == "" {
		return vm.Exec(ctx, o, req.command)
	}
	status, made, err := replay.Record(ctx, o, replay.Request{
		Name: req.record.name, Command: req.command, APICTimer: req.record.apicTimer, Limit: req.timeout,
	})
	if made != nil && !req.quiet {
		fmt.Fprintf(req.stderr, "kimg: %s\n", progress.CleanText(replay.Summary(made)))
	}
	return status, err
}

// recordConsole boots a guest whose serial console is this terminal, and records it.
func recordConsole(ctx context.Context, env builder.Env, req debugRequest) error {
	o, err := req.options(ctx, env)
	defer req.closeEngine()
	if err != nil {
		return err
	}
	req.extras.apply(&o, nil)
	if err := replay.ReadyConsole(&o); err != nil { // while the terminal shows it
		return err
	}
	screen := req.handOver(&o, "\r\nkimg: %s\r\n")
	heard := req.watch(&o)
	screen.now(func() {})
	typed, err := o.Type()
	if err != nil {
		return err
	}
	o.Console = o.Stdout
	_, made, err := replay.Record(ctx, o, replay.Request{Name: req.record.name, Typed: typed,
		APICTimer: req.record.apicTimer, Limit: cmp.Or(req.timeout, consoleLimit)})
	typed.Close()
	if made == nil || ctx.Err() != nil {
		return err
	}
	// However the guest ended, it is there to go back from; its complaints are where gdb begins.
	fmt.Fprintf(req.stderr, "\nkimg: %s\n", progress.CleanText(replay.Summary(made)))
	return heard.tell(nil)
}

// consoleLimit is how long a recording of the serial console may last by default.
const consoleLimit = time.Hour

// unrecordable are the errors of checks whose guests cannot be recorded, in their order; nil: all can, or none shall.
func (req *checkRequest) unrecordable(planned []vm.Planned) []error {
	if req.record == "" {
		return nil
	}
	wrong := make([]error, len(planned))
	for i, p := range planned {
		if p.Check.Break != "" {
			wrong[i] = &replay.RefusedError{What: "the check stops at a breakpoint, and its command alone is recorded",
				Help: "leave --record out, or the check's breakpoint"}
			continue
		}
		wrong[i] = replay.Ready(&p.Options, p.Check.Command)
	}
	if errors.Join(wrong...) == nil {
		return nil
	}
	return wrong
}

// runCheck runs a check's guest, and records it where that was asked for.
func (req *checkRequest) runCheck(ctx context.Context, c checks.Check, p vm.Planned,
) (*vm.Result, *recording.Recording, error) {
	if req.record == "" {
		result, err := vm.RunCheck(ctx, p.Options, p.Check)
		return result, nil, err
	}
	var console vm.Tail
	o := p.Options
	o.Console = io.MultiWriter(o.Console, &console)
	status, made, err := replay.Record(ctx, o, replay.Request{
		Name: checks.RecordingNames(req.all)[c.Name], Check: c.Name, Command: p.Check.Command, Limit: c.Timeout})
	return &vm.Result{Ran: err == nil, Status: status, Console: console.Lines()}, made, err
}

// replayFlags are those of a gdb on a recording.
type replayFlags struct {
	name string // empty: on a guest
	text string
	at   replay.At
}

func (f *replayFlags) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&f.name, "replay", "",
		"replay the recording `NAME`, or one that was exported to a file, and go backwards from its end")
	flags.StringVar(&f.text, "at", "end",
		"with --replay, begin at `PLACE`: end, boot or icount:N, the number of an instruction")
}

// shaping are the flags that are a guest's, and that a recording has its own values of.
var shaping = strings.Fields("append memory cpus running init snapshot net share forward qemu-arg timeout")

func (f *replayFlags) check(flags *pflag.FlagSet) (err error) {
	if f.name == "" {
		if flags.Changed("at") {
			return &spec.InputError{Field: "--at", Err: errors.New("it is a place in a recording: want --replay too")}
		}
		return nil
	}
	if f.at, err = replay.ParseAt(f.text); err != nil {
		return &spec.InputError{Field: "--at", Err: err}
	}
	for _, name := range shaping {
		if flags.Changed(name) {
			return &spec.InputError{Field: "--" + name, Err: errors.New("a replay's guest is the recorded one")}
		}
	}
	return nil
}

// checkRecord refuses what does not go with a recording of the console.
func (req *debugRequest) checkRecord(flags *pflag.FlagSet) error {
	if req.record.name == "" {
		return nil
	}
	for _, name := range []string{"replay", "running"} {
		if flags.Changed(name) {
			return &spec.InputError{Field: "--" + name, Err: errors.New("--record boots a guest and then replays it")}
		}
	}
	return nil
}

// openRecording opens a recording of the out directory, or a file that one was exported to.
func (g *guest) openRecording(ctx context.Context, env builder.Env, name string) (*recording.Recording, error) {
	r, err := g.findRecording(ctx, env, name)
	if err != nil {
		return nil, err
	}
	return r, g.replays(r)
}

// replays has the guest be that of a recording, with the tools that are its own.
func (g *guest) replays(r *recording.Recording) (err error) {
	g.recorded, g.pins = true, r.Pins()
	if g.arch, err = arch.Parse(r.Arch); err != nil {
		err = fmt.Errorf("replay %s: %w", r.Name(), err)
	}
	return err
}

func (g *guest) findRecording(ctx context.Context, env builder.Env, name string) (*recording.Recording, error) {
	file, err := os.Stat(name)
	isFile := err == nil && file.Mode().IsRegular()
	switch bad := recording.CheckName(name); {
	case bad != nil && !isFile:
		return nil, &spec.InputError{Field: "recording", Err: fmt.Errorf("%w, or a file that is there", bad)}
	case bad == nil:
		_, err := os.Stat(filepath.Join(g.out, recording.Home, name))
		if !isFile || err == nil {
			return recording.Open(ctx, g.out, name)
		}
	}
	task := progress.Start(env.Sink, "import", "read "+name)
	r, imported, err := recording.OpenFile(ctx, g.out, name)
	task.End(err == nil && !imported, err)
	if imported {
		progress.Say(env.Sink, fmt.Sprintf("recording %s is that of %s; kimg recording rm drops it", r.Name(), name))
	}
	return r, err
}

// replayGuest gives gdb's prompt on a recording to the terminal.
func replayGuest(ctx context.Context, env builder.Env, req debugRequest) error {
	r, err := req.openRecording(ctx, env, req.replay.name)
	if err != nil {
		return err
	}
	o, err := req.options(ctx, env)
	defer req.closeEngine()
	if err != nil {
		return err
	}
	if err := req.showSource(ctx, env, &o); err != nil {
		return err
	}
	screen := req.handOver(&o, "\r\nkimg: %s\r\n")
	task := progress.Start(env.Sink, "replay", "replay "+r.Name())
	err = replay.Debug(ctx, o, r, req.replay.at, req.debugging, counted(task), func() {
		task.End(false, nil)
		screen.now(func() {})
		_ = req.interrupts() // gdb has the same Ctrl-C from the terminal
	})
	screen.now(func() { task.End(false, err) })
	return err
}

// counted shows how far a replay is, of those that are made one after another: done is all of the one that runs.
func counted(task *progress.Task) func(done, all uint64) {
	var told int64
	return func(done, all uint64) {
		now := int64(done / 1e6)
		task.Add(now-told, int64(all/1e6), "M instructions")
		told = now
	}
}

// recordingRequest asks for the recordings of names to be replayed and compared.
type recordingRequest struct {
	guest
	names []string
}

func (a *app) recording() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "recording",
		Short: "List, verify, carry and drop what run --record recorded",
		Args:  noCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	req := recordingRequest{guest: a.guest()}
	req.inContainer = true
	named := func(cmd *cobra.Command, names []string) error {
		if len(names) == 0 {
			return usageError{cmd, errors.New("no recording is named: kimg recording ls lists them")}
		}
		for _, name := range names {
			if err := recording.CheckName(name); err != nil {
				return usageError{cmd, err}
			}
		}
		return req.find(cmd.Flags(), ".")
	}
	ls := &cobra.Command{
		Use: "ls", Short: "List the recordings of the last build", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := req.find(cmd.Flags(), "."); err != nil {
				return err
			}
			return listRecordings(a.stdout, req.out)
		},
	}
	rm := &cobra.Command{
		Use: "rm NAME...", Short: "Drop recordings", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := named(cmd, names); err != nil {
				return err
			}
			for _, name := range names {
				if err := recording.Remove(req.out, name); err != nil {
					return err
				}
			}
			return nil
		},
	}
	verify := &cobra.Command{
		Use: "verify NAME...", Short: "Replay recordings, and compare what they do", Args: cobra.ArbitraryArgs,
		Long: `Compare every file of the recordings with what was recorded, replay each from its beginning to
its end, and compare the serial console and the number of instructions. The exit status
is 6 where a replay leaves its recording.`,
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := named(cmd, names); err != nil {
				return err
			}
			req.names = names
			return a.withEnv(func(env builder.Env, done func()) error {
				req.takeTerminal = done
				return a.actions.verifyRecording(cmd.Context(), env, req)
			})
		},
	}
	thin, as := false, ""
	export := &cobra.Command{
		Use: "export NAME FILE", Short: "Write a recording as one file, for another machine", Args: cobra.ArbitraryArgs,
		Long: `Write a recording as one file, which kimg recording import reads elsewhere: with the kernel, its
symbols and the disk, or with --thin without them, for who has the same build. It has all
that the guest saw: keys, packets, random numbers.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usageError{cmd, errors.New("want a recording's name and a file")}
			}
			if err := named(cmd, args[:1]); err != nil {
				return err
			}
			return exportRecording(cmd.Context(), req.out, args[0], args[1], thin)
		},
	}
	export.Flags().BoolVar(&thin, "thin", false, "leave out the kernel, its symbols and the disk")
	imports := &cobra.Command{
		Use: "import FILE", Short: "Take in a recording of another machine", Args: cobra.ArbitraryArgs,
		Long: `Take in what kimg recording export wrote. Every file is compared with what was recorded; what a
thin one leaves out is taken from the build in --out, where it is the same.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{cmd, errors.New("want one file")}
			}
			if as == "" {
				as, _, _ = strings.Cut(filepath.Base(args[0]), ".")
			}
			if err := named(cmd, []string{as}); err != nil {
				return err
			}
			return importRecording(cmd.Context(), req.out, as, args[0], a.stdout)
		},
	}
	imports.Flags().StringVar(&as, "as", "", "call it `NAME` (default: the file's, up to its first dot)")
	for _, c := range []*cobra.Command{ls, rm, verify, export, imports} {
		c.Flags().StringVar(&req.out, "out", req.out, "look in `DIR`")
		cmd.AddCommand(c)
	}
	return cmd
}

func listRecordings(w io.Writer, out string) error {
	list, err := recording.List(out)
	if err != nil || len(list) == 0 {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tMADE\tEND\tINSTRUCTIONS\tSIZE\tCOMMAND")
	for _, r := range list {
		size := units.Size(r.Size).Human()
		if r.Err != nil {
			fmt.Fprintf(t, "%s\t-\t%s\t-\t%s\t-\n", r.Name, "not readable", size)
			continue
		}
		end := r.End.How
		switch {
		case r.Busy:
			end = "being made"
		case end == recording.Running:
			end = recording.Killed
		}
		if r.End.Status != nil {
			end = fmt.Sprintf("status %d", *r.End.Status)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%dM\t%s\t%s\n", r.Name, r.Made.Local().Format(time.DateTime), end,
			max(r.End.Icount, r.End.Replayed)/1e6, size, progress.Clean(strings.Join(r.Command, " ")))
	}
	return t.Flush()
}

func exportRecording(ctx context.Context, out, name, file string, thin bool) (err error) {
	r, err := recording.Open(ctx, out, name)
	if err != nil {
		return err
	}
	if err := r.Verify(ctx); err != nil {
		return err
	}
	if err := reading.CheckPlace(file); err != nil {
		return err
	}
	to, err := filelock.Replace(file, renameio.WithPermissions(0o600))
	if err != nil {
		return fmt.Errorf("export recording %s: %w", name, err)
	}
	defer func() { _ = to.Cleanup() }()
	if err := r.Export(ctx, to, thin); err != nil {
		return err
	}
	return to.CloseAtomicallyReplace()
}

func importRecording(ctx context.Context, out, name, file string, say io.Writer) error {
	from, err := reading.Open(file)
	if err != nil {
		return fmt.Errorf("import recording %s: %w", name, err)
	}
	defer from.Close()
	r, err := recording.Import(ctx, out, name, from)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(say, "recording %s: kimg debug --replay %[1]s --out %s\n", r.Name(), out)
	return err
}

func verifyRecordings(ctx context.Context, env builder.Env, req recordingRequest) error {
	var failed []error
	for _, name := range req.names {
		failed = append(failed, verifyOne(ctx, env, req.guest, name))
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failed...)
}

// verifyOne replays a recording with the tools that are its own.
func verifyOne(ctx context.Context, env builder.Env, g guest, name string) error {
	r, err := recording.Open(ctx, g.out, name)
	if err != nil {
		return err
	}
	if err := g.replays(r); err != nil {
		return err
	}
	o, err := g.options(ctx, env)
	defer g.closeEngine()
	if err != nil {
		return err
	}
	task := progress.Start(env.Sink, "verify", "replay "+name)
	err = replay.Verify(ctx, o.Toolbox, r, counted(task))
	task.End(false, err)
	if err == nil {
		_, err = fmt.Fprintf(g.stdout, "%s: the same console, the same %d instructions\n", name,
			replay.Instructions(r))
	}
	return err
}
