package replay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/gdb"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/recording"
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

// Debug replays a recording to a place of it and gives gdb's prompt there to the user, where commands run the guest
// forwards and back. Every file is compared first; the first time one replay of the whole keeps states to go back to.
// begun is called when gdb is about to have the terminal.
func Debug(
	ctx context.Context, o vm.Options, r *recording.Recording, at At, d vm.Debugging,
	tell func(done, all uint64), begun func(),
) (err error) {
	done, err := r.Use()
	if err != nil {
		return err
	}
	defer done()
	if err := r.Verify(ctx); err != nil {
		return err
	}
	kernel, err := gdb.ReadSymbols(r.Path(artifact.Vmlinux))
	if err != nil {
		return err
	}
	if _, err := os.Stat(r.Path(recording.Points)); errors.Is(err, fs.ErrNotExist) {
		if err := pass(ctx, o.Toolbox, r, true, tell); err != nil {
			return err
		}
	}
	s, err := open(ctx, o.Toolbox, r, r.Path(recording.Points), true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	commands, err := s.goTo(ctx, at, kernel)
	if err != nil {
		return err
	}
	for _, place := range d.Breaks {
		commands = append(commands, "hbreak "+place)
	}
	if len(d.Breaks) > 0 {
		way := "reverse-continue"
		if at.Boot {
			way = "continue"
		}
		commands = append(commands, way)
	}
	args := gdb.Session{
		Files: gdb.Files{Vmlinux: s.tools.Path(artifact.Vmlinux), Index: s.tools.Index,
			Scripts: []string{s.tools.Path(artifact.GDBLoader), s.tools.Path(artifact.GDBScripts)}},
		Socket: s.tools.Socket(gdbSocket), HoldKeys: true, Batch: d.Batch,
		Commands: append(commands, d.Commands...),
	}.Args()
	begun()
	// Ctrl-\ is gdb's. Caught rather than ignored, which gdb would inherit.
	dropped := make(chan os.Signal, 1)
	signal.Notify(dropped, syscall.SIGQUIT)
	defer signal.Stop(dropped)
	wait, err := s.tools.Start(ctx, toolbox.Program{
		Args: args, Terminal: true, Term: o.Term, Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr})
	if err == nil {
		err = wait()
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return &gdb.EndedError{Err: err}
	}
	return nil
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
	case target == 0:
		target = end - 1
	}
	if _, err := s.run(ctx, target, true, nil); err != nil {
		return nil, err
	}
	if at.Icount != 0 {
		return nil, nil
	}
	console, err := reading.Small(s.r.Path(recording.Tape, recording.Console), maxConsole)
	if err != nil {
		return nil, err
	}
	if place := cause(string(console), kernel.Functions); place != "" {
		return []string{"thbreak " + place, "reverse-continue"}, nil
	}
	return nil, nil
}

// maxConsole bounds a recorded console, in bytes.
const maxConsole = 256 << 20

// causes are what a console says, and where the kernel is when it does: the first function that there is.
var causes = []struct {
	said      string
	functions []string
}{
	{"Kernel panic - not syncing", []string{"vpanic", "panic"}},
	{"BUG: KASAN", []string{"kasan_report"}},
	{"Oops", []string{"__die", "die"}},
	{"BUG: ", []string{"__die", "die"}},
	{"WARNING: ", []string{"__warn"}},
}

// cause is the function that a console's worst report came from; empty: there is none.
func cause(console string, functions []string) string {
	for _, c := range causes {
		if !strings.Contains(console, c.said) {
			continue
		}
		for _, f := range c.functions {
			if slices.Contains(functions, f) {
				return f
			}
		}
	}
	return ""
}
