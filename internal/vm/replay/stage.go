package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/kimg/kimg/internal/gdb"
	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/recording"
	"github.com/kimg/kimg/internal/toolbox"
	"github.com/kimg/kimg/internal/vm"
)

// Stage is a recording on which a program goes forwards and back, as a user does in [Debug]: its gdb looks at the
// guest, and the Stage alone moves it. One goroutine at a time may use it.
type Stage struct {
	*gdb.Debugger
	s    *session
	done func()
}

// Enter replays a recording to an instruction of it, 0: to its last one. The caller calls Leave.
func Enter(
	ctx context.Context, o vm.Options, r *recording.Recording, icount uint64, tell func(done, all uint64),
) (_ *Stage, err error) {
	done, err := r.Use()
	if err != nil {
		return nil, err
	}
	g := &Stage{done: done}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.Leave(ctx))
		}
	}()
	if g.s, err = enter(ctx, o.Toolbox, r, tell); err != nil {
		return nil, err
	}
	if r.End.Replayed <= 1 {
		return nil, fmt.Errorf("replay %s: it has no instruction", r.Name())
	}
	if icount == 0 {
		icount = last(r)
	}
	if _, err := g.s.run(ctx, icount, true, nil); err != nil {
		return nil, err
	}
	tools := g.s.tools
	g.Debugger, err = gdb.Start(func(in io.Reader, out, errs io.Writer) (func() error, error) {
		return tools.Start(context.WithoutCancel(ctx),
			toolbox.Program{Args: gdb.Args(g.s.gdbFiles()), Stdin: in, Stdout: out, Stderr: errs})
	})
	if err != nil {
		return nil, err
	}
	return g, g.Attach(ctx, tools.Socket(gdbSocket))
}

// leaveLimit is how long gdb may take to end.
const leaveLimit = 5 * time.Second

// Leave ends gdb and QEMU.
func (g *Stage) Leave(ctx context.Context) (err error) {
	if g.Debugger != nil {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveLimit)
		_ = g.Exit(ending) // it ends with its container, too
		cancel()
	}
	if g.s != nil {
		err = g.s.close(ctx)
	}
	g.done()
	return err
}

// Icount is the number of the instruction that the halted guest is about to run.
func (g *Stage) Icount(ctx context.Context) (uint64, error) {
	s, err := g.s.monitor.ReplayState(ctx)
	if err != nil {
		return 0, g.s.ended(err)
	}
	return s.Icount, nil
}

// GoBack runs the guest back to the last breakpoint or watchpoint before, and says which instruction that is. There
// was none where that is the first of all: 0. QEMU passes over the instruction just before: is says whether it is the
// one, with the guest before it.
func (g *Stage) GoBack(ctx context.Context, is func() (bool, error)) (icount uint64, err error) {
	if icount, err = g.Icount(ctx); err != nil || icount == 0 {
		return 0, err
	}
	if icount, err = g.GoStep(ctx, true); err != nil {
		return 0, err
	}
	if here, err := is(); here || err != nil {
		return icount, err
	}
	if _, err := g.GoStep(ctx, false); err != nil {
		return 0, err
	}
	if err := g.Back(ctx); err != nil {
		return 0, err
	}
	return g.halted(ctx)
}

// GoStep runs one instruction, or takes it back.
func (g *Stage) GoStep(ctx context.Context, back bool) (icount uint64, err error) {
	if err := g.Step(ctx, back); err != nil {
		return 0, err
	}
	return g.halted(ctx)
}

// GoOn runs the guest to the next breakpoint.
func (g *Stage) GoOn(ctx context.Context) (icount uint64, err error) {
	if err := g.Proceed(ctx); err != nil {
		return 0, err
	}
	return g.halted(ctx)
}

// GoTo brings the guest forwards to an instruction. No breakpoint may be set.
func (g *Stage) GoTo(ctx context.Context, icount uint64) error {
	at, err := g.Icount(ctx)
	if err != nil || at == icount {
		return err
	}
	if at > icount {
		return fmt.Errorf("go to instruction %d: the guest is at %d", icount, at)
	}
	if err := g.s.monitor.Do(ctx, "replay-break", map[string]uint64{"icount": icount}, nil); err != nil {
		return g.s.ended(err)
	}
	if at, err = g.GoOn(ctx); err == nil && at != icount {
		err = &DivergedError{g.s.r.Name(), at, fmt.Sprintf("it was to go to %d", icount)}
	}
	return err
}

// halted waits until the guest has stopped. A replay that stands still has left its recording.
func (g *Stage) halted(ctx context.Context) (uint64, error) {
	watching, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if err := g.s.strays(watching); err != nil {
			cancel(err)
		}
	}()
	stop, err := g.AwaitStop(watching, g.s.gone)
	cancel(nil)
	<-watched
	switch {
	case err != nil:
		return 0, err
	case stop == nil:
		return 0, g.s.ended(nil)
	}
	return g.Icount(ctx)
}

// strays is an error once the replay has run for too long without an instruction more: it has left its recording, and
// QEMU does not say so. nil: ctx has ended before.
func (s *session) strays(ctx context.Context) error {
	var at uint64
	moved := time.Now()
	for {
		select {
		case <-time.After(askPause):
		case <-s.gone:
			return nil
		case <-ctx.Done():
			return nil
		}
		// It answers nothing while it loads a state. The end of ctx would close the connection.
		asking, stop := context.WithTimeoutCause(context.WithoutCancel(ctx), stillLimit,
			&DivergedError{s.r.Name(), at, fmt.Sprintf("QEMU has not answered for %v", stillLimit)})
		var status struct{ Running bool }
		err := s.monitor.Do(asking, "query-status", nil, &status)
		var state qemu.ReplayState
		if err == nil {
			state, err = s.monitor.ReplayState(asking)
		}
		stop()
		switch {
		case err != nil:
			var silent *DivergedError
			if errors.As(err, &silent) {
				return silent
			}
			return nil // QEMU has ended: who waits for it hears that
		case state.Icount != at || !status.Running:
			at, moved = state.Icount, time.Now()
		case time.Since(moved) > stillLimit:
			return &DivergedError{s.r.Name(), at, fmt.Sprintf("it has stood there for %v", stillLimit)}
		}
	}
}
