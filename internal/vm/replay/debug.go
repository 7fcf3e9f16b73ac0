package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/gdb"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/recording"
	"github.com/kimg/kimg/internal/splat"
	"github.com/kimg/kimg/internal/toolbox"
	"github.com/kimg/kimg/internal/vm"
)

// At is where in a recording gdb begins.
type At struct {
	Boot   bool
	Icount uint64 // 0, and not Boot: the end
}

// ParseAt reads end, boot or icount:N.
func ParseAt(text string) (At, error) {
	number, counted := strings.CutPrefix(text, "icount:")
	switch {
	case text == "end" || text == "":
		return At{}, nil
	case text == "boot":
		return At{Boot: true}, nil
	case counted:
		if n, err := strconv.ParseUint(number, 10, 62); err == nil && n > 0 {
			return At{Icount: n}, nil
		}
	}
	return At{}, fmt.Errorf("%q: want end, boot or icount:N", text)
}

// gdbArtifacts are what gdb reads.
func gdbArtifacts() []string {
	return []string{artifact.Vmlinux, artifact.GDBLoader, artifact.GDBScripts}
}

// gdbFiles are those as gdb sees them.
func (s *session) gdbFiles() gdb.Files {
	return gdb.Files{
		GDB: s.tools.GDB, Vmlinux: s.tools.Path(artifact.Vmlinux), Index: s.tools.Index,
		Scripts: []string{s.tools.Path(artifact.GDBLoader), s.tools.Path(artifact.GDBScripts)},
	}
}

// Debug replays a recording to a place of it and gives gdb's prompt there to the user, where commands run the guest
// forwards and back. Every file is compared first; the first time one replay of the whole keeps states to go back to.
// A guest of an architecture whose replays go forwards alone is taken to the first such place instead of the last, from
// its beginning, and gdb's reverse commands say that they cannot. begun is called when gdb is about to have the
// terminal.
func Debug(
	ctx context.Context, o vm.Options, r *recording.Recording, at At, d vm.Debugging,
	tell func(done, all uint64), begun func(),
) (err error) {
	done, err := r.Use()
	if err != nil {
		return err
	}
	defer done()
	s, err := enter(ctx, o.Toolbox, r, tell)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	kernel, err := gdb.ReadSymbols(r.Path(artifact.Vmlinux))
	if err != nil {
		return err
	}
	if s.onward && len(d.Breaks) > 0 && at.Icount == 0 {
		at.Boot = true
	}
	commands, err := s.goTo(ctx, at, kernel)
	if err != nil {
		return err
	}
	for _, place := range d.Breaks {
		commands = append(commands, "hbreak "+place)
	}
	if len(d.Breaks) > 0 {
		way := "reverse-continue"
		if at.Boot || s.onward {
			way = "continue"
		}
		commands = append(commands, way)
	}
	if s.onward {
		commands = append(slices.Clone(noReverse), commands...)
		if o.Say != nil {
			o.Say("QEMU replays guests of " + r.Arch + " forwards alone: gdb's reverse commands are not there")
		}
	}
	args := gdb.Session{
		Files:  s.gdbFiles(),
		Socket: s.tools.Socket(gdbSocket), HoldKeys: true, Batch: d.Batch,
		Commands: append(commands, d.Commands...),
	}.Args()
	begun()
	// Ctrl-\ is gdb's. Caught rather than ignored, which gdb would inherit.
	dropped := make(chan os.Signal, 1)
	signal.Notify(dropped, syscall.SIGQUIT)
	defer signal.Stop(dropped)
	running, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if err := s.strays(running); err != nil {
			cancel(err)
		}
	}()
	defer func() { cancel(nil); <-watched }()
	wait, err := s.tools.Start(running, toolbox.Program{
		Args: args, Terminal: true, Term: o.Term, Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr})
	if err == nil {
		err = wait()
	}
	switch {
	case running.Err() != nil:
		return context.Cause(running)
	case err != nil:
		return &gdb.EndedError{Err: err}
	}
	return nil
}

// noReverse has gdb refuse to go backwards.
var noReverse = []string{"set remote reverse-continue-packet off", "set remote reverse-step-packet off"}

// enter opens a session with gdb's stub, on a recording that the caller uses. Every file is compared first; the first
// time one replay of the whole keeps states to go back to.
func enter(
	ctx context.Context, box toolbox.Toolbox, r *recording.Recording, tell func(done, all uint64),
) (*session, error) {
	a, err := arch.Parse(r.Arch)
	if err == nil {
		err = r.Verify(ctx)
	}
	if err != nil {
		return nil, err
	}
	if a.Recorded.Onward {
		if r.End.Replayed == 0 { // how far a replay comes is not known yet
			if err := pass(ctx, box, r, nil, tell); err != nil {
				return nil, err
			}
		}
		return open(ctx, box, r, recording.Tape+"/"+recording.Overlay, false, true)
	}
	if _, err := os.Stat(r.Path(recording.Points)); errors.Is(err, fs.ErrNotExist) {
		told := toldAt(r)
		err := pass(ctx, box, r, pointsOf(r.End.Icount, told...), tell)
		// QEMU 10 may stand still some time after a state was kept, where a replay that keeps none on the way does not.
		var strayed *DivergedError
		if near := nearPoints(r.End.Icount, told...); errors.As(err, &strayed) && len(near) > 0 {
			err = pass(ctx, box, r, near, tell)
		}
		if err != nil {
			return nil, err
		}
	}
	return open(ctx, box, r, recording.Points, false, true)
}

// goTo brings the guest to a place; what is left of the way is gdb's to go.
func (s *session) goTo(ctx context.Context, at At, kernel *gdb.Symbols) (commands []string, err error) {
	end := s.r.End.Replayed
	target := at.Icount
	switch {
	case at.Boot || end <= 1:
		return nil, nil
	case target >= end:
		return nil, fmt.Errorf("replay %s: it has %d instructions, and none of number %d", s.r.Name(), end, target)
	case target == 0 && s.onward:
		if commands, err = s.toReport(kernel); err != nil || len(commands) > 0 {
			return commands, err
		}
		target = last(s.r)
	case target == 0:
		target = last(s.r)
	}
	if _, err := s.run(ctx, target, !s.onward, nil); err != nil {
		return nil, err
	}
	if at.Icount != 0 || s.onward {
		return nil, nil
	}
	return s.toReport(kernel)
}

// shutdown is more than the instructions are between the guest's request to be shut down, or reset, and its last one.
const shutdown = 200_000

// last is the last instruction to go back from. Where the guest has been shut down QEMU runs nothing more, and stops
// once at a place that has nothing to do with it.
func last(r *recording.Recording) uint64 {
	end := r.End.Replayed
	if (r.End.How == recording.Off || r.End.How == recording.Panic) && end > 2*shutdown {
		return end - shutdown
	}
	return end - 1
}

// toReport are gdb's commands to go back from the end to where the kernel told of what it ended by; or where the replay
// goes forwards alone, from the beginning to where it first told of such a thing.
func (s *session) toReport(kernel *gdb.Symbols) (commands []string, err error) {
	reports, err := Reports(s.r)
	if err != nil {
		return nil, err
	}
	way := "reverse-continue"
	if s.onward {
		way = "continue"
	}
	return goToReport(splat.Last(reports), kernel.Functions, way), nil
}

// goToReport are the commands to go to a report that way; none where there is none, or nothing to stop at.
func goToReport(r *splat.Report, functions []string, way string) (commands []string) {
	if r == nil {
		return nil
	}
	places := r.Stops(func(f string) bool { return slices.Contains(functions, f) })
	for _, f := range places {
		commands = append(commands, "thbreak "+f)
	}
	if len(places) > 0 {
		commands = append(commands, way)
	}
	if len(places) > 1 {
		commands = append(commands, "delete") // the others
	}
	return commands
}

// Reports are what the kernel of a recording complained of, by its console.
func Reports(r *recording.Recording) ([]*splat.Report, error) {
	f, err := reading.Open(r.Path(recording.Tape, recording.Console))
	if err != nil {
		return nil, fmt.Errorf("replay %s: %w", r.Name(), err)
	}
	defer f.Close()
	var reader splat.Reader
	if _, err := io.Copy(&reader, f); err != nil {
		return nil, fmt.Errorf("replay %s: read its console: %w", r.Name(), err)
	}
	_ = reader.Close() // it never fails
	return reader.Reports(), nil
}
