package replay

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/guest"
	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/recording"
	"github.com/kimg/kimg/internal/toolbox"
	"github.com/kimg/kimg/internal/units"
	"github.com/kimg/kimg/internal/vm"
	"golang.org/x/sys/unix"
)

// Request says what to record.
type Request struct {
	Name    string
	Check   string // the check that it is for: an earlier recording of a check makes way; empty: none
	Command []string
	// Typed goes to the serial console, which a shell has in place of a command without input; nil: a command is run.
	Typed *vm.Typed
	// APICTimer keeps the local APIC's timer, whose calibration alone makes the log twenty times as long. Without it
	// the guest has the ticks of the PIT.
	APICTimer bool
	Limit     time.Duration // how long it may last; 0: [DefaultLimit]
	MaxLog    units.Size    // how large its log may grow; 0: [DefaultMaxLog]
}

// The bounds of a recording, at which it ends whole.
const (
	DefaultLimit  = 10 * time.Minute
	DefaultMaxLog = units.Size(512 << 20)
)

// Record boots the guest, runs the command in it, and keeps the recording in the out directory. It returns the
// command's status, as [vm.Exec] does and with its errors; the recording is then there too, unless it is nil.
func Record(ctx context.Context, o vm.Options, q Request) (status int, r *recording.Recording, err error) {
	if err := Check(&o, q.Command, q.Typed != nil); err != nil {
		return 0, nil, err
	}
	made, err := machineOf(&o, q)
	if err != nil {
		return 0, nil, err
	}
	unlock, err := vm.ShareDisk(o.Dir)
	if err != nil {
		return 0, nil, err
	}
	defer unlock()
	if made.Check = q.Check; q.Check != "" {
		if err := recording.MakeWay(o.Dir, q.Name); err != nil {
			return 0, nil, err
		}
	}
	made.Made = time.Now().UTC().Truncate(time.Second)
	if r, err = recording.Create(ctx, o.Dir, q.Name, made); err != nil {
		return 0, nil, err
	}
	q.Limit, q.MaxLog = cmp.Or(q.Limit, DefaultLimit), cmp.Or(q.MaxLog, DefaultMaxLog)
	t := &taping{o: &o, q: q, r: r, frames: newFrames(o.Stdout, o.Stderr),
		typed: make(chan []byte), left: make(chan struct{})}
	err = t.run(ctx)
	if !t.began {
		return 0, nil, errors.Join(err, r.Discard())
	}
	r.Close()
	return t.frames.status, r, err
}

// taping is a guest that is being recorded.
type taping struct {
	o      *vm.Options
	q      Request
	r      *recording.Recording
	tools  *toolbox.Tools
	frames *frames
	keys   *os.File      // what the console reads; nil: nothing
	typed  chan []byte   // a few bytes for it
	left   chan struct{} // closed when the user has left
	began  bool          // there is something to replay
	lines  lineCount     // of the console
}

// lineCount counts the lines that have ended of what is written to it.
type lineCount struct{ atomic.Int64 }

func (c *lineCount) Write(p []byte) (int, error) {
	c.Add(int64(bytes.Count(p, []byte{'\n'})))
	return len(p), nil
}

// prepare makes what QEMU reads.
func (t *taping) prepare(ctx context.Context) (argvOf []string, err error) {
	a, err := arch.Parse(t.r.Arch)
	if err != nil {
		return nil, err
	}
	if t.r.QEMU, err = identify(ctx, t.tools, a); err != nil {
		return nil, err
	}
	does := guest.Recorded{Disk: scriptDisk, Serial: "/dev/" + a.Console, Frames: "/dev/" + a.Recorded.Port,
		Script: vm.Script(t.q.Command), Direct: t.o.Direct, UserNet: t.r.Card != "", Console: t.q.Typed != nil}
	tape := t.tools.Shares[0]
	typed := ""
	if does.Console {
		does.Script = "exec \"$SHELL\" -l\n"
		if t.o.Session != "" {
			does.Script = t.o.Session + "\n"
		}
		typed = tape + "/" + typedFIFO
		if err := t.openKeys(); err != nil {
			return nil, fmt.Errorf("have the console read what is typed: %w", err)
		}
	}
	script, err := does.Image()
	if err == nil {
		err = os.WriteFile(t.r.Path(recording.Tape, recording.Script), script, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("write the guest's script: %w", err)
	}
	disk := tape + "/" + recording.Overlay
	size := strconv.FormatInt(t.r.Parts[artifact.Disk].Size, 10)
	if _, err := output(ctx, t.tools, "qemu-img", "create", "-q", "-f", "qcow2", disk, size); err != nil {
		return nil, fmt.Errorf("make the disk's overlay: %w", err)
	}
	return argv(t.r, place{tools: t.tools, log: tape + "/" + recording.Log, disk: disk, typed: typed, output: tape})
}

// typedFIFO is what the console reads, in the tape's directory. QEMU has the reading of it in the log: a socket's
// connection, and that it is full, it has not.
const typedFIFO = "typed"

// Keys go to the guest a few at a time. QEMU reads what there is while the port's queue, of 16 bytes, has room; but the
// queue of a guest that is recorded gets nothing before the processor next pauses, so that QEMU may read, and lose,
// much more. The next ones go when the guest has had the time to take those before: it has run that many instructions,
// or it waits for keys.
const (
	someKeys  = 8
	keysRun   = 200_000
	keysIdle  = 200 * time.Millisecond
	keysPause = 5 * time.Millisecond
)

// hands is how keys are handed on.
type hands struct{ to chan<- []byte }

func (h hands) Write(p []byte) (int, error) {
	for some := range slices.Chunk(p, someKeys) {
		h.to <- slices.Clone(some)
	}
	return len(p), nil
}

// openKeys has the console read what is typed.
func (t *taping) openKeys() (err error) {
	name := t.r.Path(recording.Tape, typedFIFO)
	if err := unix.Mkfifo(name, 0o600); err != nil {
		return err
	}
	// For reading, too: so neither side waits for the other.
	if t.keys, err = os.OpenFile(name, os.O_RDWR, 0); err != nil {
		return err
	}
	t.frames.reads = t.q.Typed.Release
	go func() {
		if err := t.q.Typed.Copy(hands{t.typed}); errors.Is(err, vm.ErrLeft) {
			close(t.left)
		}
	}()
	return nil
}

// closeKeys ends that.
func (t *taping) closeKeys() error {
	if t.keys == nil {
		return nil
	}
	return errors.Join(t.keys.Close(), os.Remove(t.r.Path(recording.Tape, typedFIFO)))
}

func (t *taping) run(ctx context.Context) (err error) {
	t.tools, err = t.o.Toolbox.Open(ctx, toolbox.Mounts{
		Dir: t.r.Dir(), Shares: []toolbox.Share{{Dir: t.r.Path(recording.Tape), Write: true}}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.tools.Close(ctx), t.closeKeys()) }()
	args, err := t.prepare(ctx)
	if err != nil {
		return err
	}
	if err := t.r.Save(); err != nil { // from here on a kill leaves something to mend
		return err
	}
	running, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	var said vm.Tail
	wait, err := t.tools.Start(running, toolbox.Program{Args: args, Stdout: &said, Stderr: &said})
	if err != nil {
		return err
	}
	gone := make(chan struct{})
	go func() { defer close(gone); _ = wait() }() // what QEMU said tells more
	console := t.o.ConsoleTail()
	end := make(chan struct{})
	var followers sync.WaitGroup
	var followErr error
	tape := t.r.Path(recording.Tape)
	broken := make(chan struct{})
	followers.Go(func() {
		if followErr = follow(tape, recording.Command, t.frames, end); followErr != nil {
			close(broken)
		}
	})
	followers.Go(func() { // Seal reads it again
		_ = follow(tape, recording.Console, io.MultiWriter(console, &t.lines), end)
	})
	why := t.watch(ctx, running, gone, broken)
	if why != nil && t.r.End.How == "" || errors.Is(why, errHangs) { // it did not come to run, or is beyond words
		kill()
		<-gone
	}
	select {
	case <-gone:
	case <-time.After(endLimit):
		kill()
		<-gone
		t.r.End.How = recording.Killed
		why = errors.Join(why, errHangs)
	}
	close(end)
	followers.Wait()
	t.began = t.r.End.How != ""
	if !t.began {
		if lines := said.Lines(); len(lines) > 0 && ctx.Err() == nil {
			return &vm.StartError{What: "QEMU ended: " + lines[len(lines)-1], Err: why}
		}
		return why
	}
	return errors.Join(t.settle(ctx, console, why), followErr)
}

// errHangs is of a QEMU that waits for itself, as it does when the kernel resets a disk that still reads or writes.
// What it has written of its log replays.
var errHangs = errors.New("QEMU hung while it recorded, and was killed: the recording ends there")

// QEMU hangs when it has not answered for hangLimit.
const hangLimit = time.Minute

// endLimit is how long QEMU may take to write out a log.
const endLimit = 30 * time.Second

// lookPause is how often QEMU is asked how far it is, and the limits are looked at.
const lookPause = 250 * time.Millisecond

// watch waits for the end of the guest, or ends it, and notes how it was. An error is one of QEMU's, unless How says
// more.
func (t *taping) watch(ctx, running context.Context, gone, broken <-chan struct{}) error {
	conn, err := dial(running, t.tools, gone)
	if err != nil {
		return err
	}
	m, err := qemu.OpenMonitor(running, conn, "record a guest")
	if err != nil {
		return err
	}
	defer m.Close()
	limit := time.After(t.q.Limit)
	look := time.NewTicker(lookPause)
	defer look.Stop()
	digests := make(chan error, 1)
	go func() { digests <- t.r.DigestLinks(running) }() // while the guest boots
	end := func(how string) error {
		t.r.End.How = how
		stopping, cancel := context.WithTimeout(running, endLimit)
		defer cancel()
		err := m.Do(stopping, "stop", nil, nil)
		if err == nil {
			var s qemu.ReplayState
			if s, err = m.ReplayState(stopping); err == nil {
				t.r.End.Icount = s.Icount
			}
		}
		_ = m.Do(stopping, "quit", nil, nil) // it may close the monitor before it answers
		return errors.Join(err, <-digests)
	}
	typed, paused := t.typed, (<-chan time.Time)(nil)
	var keysAt uint64
	var keysGone time.Time
	for {
		select {
		case some := <-typed:
			if _, err := t.keys.Write(some); err != nil {
				return fmt.Errorf("type at the console: %w", err)
			}
			keysGone = time.Now()
			if s, err := m.ReplayState(running); err == nil { // else QEMU is about to be gone
				keysAt = s.Icount
			}
			typed, paused = nil, time.After(keysPause)
		case <-paused:
			s, err := m.ReplayState(running)
			if err != nil || s.Icount >= keysAt+keysRun || time.Since(keysGone) > keysIdle {
				typed, paused = t.typed, nil
			} else {
				paused = time.After(keysPause)
			}
		case e := <-m.Events():
			if e.Name == "SHUTDOWN" {
				return end(recording.Off)
			}
		case <-limit:
			return end(recording.Limit)
		case <-look.C:
			info, err := os.Stat(t.r.Path(recording.Tape, recording.Log))
			if err == nil && info.Size() > int64(t.q.MaxLog) {
				return end(recording.Limit)
			}
			asking, stop := context.WithTimeout(running, hangLimit)
			s, err := m.ReplayState(asking)
			hangs := err != nil && asking.Err() != nil && running.Err() == nil
			stop()
			if hangs {
				t.r.End.How = recording.Killed
				return errors.Join(errHangs, <-digests)
			}
			if err == nil {
				t.r.Mark(recording.Mark{Icount: s.Icount, Lines: int(t.lines.Load())})
			}
		case <-broken:
			return end(recording.Interrupted)
		case <-t.o.Interrupt:
			return end(recording.Interrupted)
		case <-t.left:
			return end(recording.Interrupted)
		case <-ctx.Done():
			return end(recording.Interrupted)
		case <-gone: // killed, or it never ran
			if info, err := os.Stat(t.r.Path(recording.Tape, recording.Console)); err == nil && info.Size() > 0 {
				t.r.End.How = recording.Killed
				return errors.Join(errors.New("QEMU ended by itself"), <-digests)
			}
			return errors.New("QEMU ended before the guest said a word")
		}
	}
}

// settle makes the recording whole, and says how the command ended.
func (t *taping) settle(ctx context.Context, console *vm.Tail, why error) error {
	sealing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	why = errors.Join(why, t.r.CloseLog())
	if t.frames.status >= 0 {
		t.r.End.Status = &t.frames.status
	}
	if t.r.End.Icount > 0 {
		t.r.Mark(recording.Mark{Icount: t.r.End.Icount, Lines: int(t.lines.Load())})
	}
	how := t.r.End.How
	panicked := console.Panic()
	if panicked != nil {
		t.r.End.How = recording.Panic
	}
	if err := t.r.Seal(sealing); err != nil {
		return errors.Join(why, err)
	}
	failed := func(what string) error {
		return errors.Join(&vm.GuestError{What: what, Console: console.Lines()}, why)
	}
	switch {
	case panicked != nil:
		return errors.Join(panicked, why)
	case why != nil:
		return &vm.GuestError{What: why.Error(), Console: console.Lines()}
	case how == recording.Interrupted && ctx.Err() != nil:
		return context.Cause(ctx)
	case how == recording.Interrupted:
		return vm.ErrInterrupted
	case t.frames.status >= 0:
		return nil
	case how == recording.Limit:
		return failed(fmt.Sprintf("the recording stopped at its limit, %s or %s of log, before the command ended",
			t.q.Limit, t.q.MaxLog.Human()))
	}
	return failed("the guest ended by itself")
}

// sizes is for a person: what a recording takes.
func sizes(r *recording.Recording) (log units.Size) {
	info, err := os.Stat(filepath.Join(r.Dir(), recording.Tape, recording.Log))
	if err != nil {
		return 0
	}
	return units.Size(info.Size())
}

// Summary is a line about a recording that was made.
func Summary(r *recording.Recording) string {
	does := "goes back from there"
	if a, err := arch.Parse(r.Arch); err == nil && a.Recorded.Onward {
		does = "goes through it"
	}
	return fmt.Sprintf("recording %s: %d million instructions, %s of log, ended by %s; kimg debug --replay %[1]s %[5]s",
		r.Name(), r.End.Icount/1e6, sizes(r).Human(), r.End.How, does)
}
