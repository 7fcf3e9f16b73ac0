package replay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/recording"
	"github.com/kimg/kimg/internal/toolbox"
	"github.com/kimg/kimg/internal/vm"
)

// session is a QEMU that replays a recording, halted at its beginning. It has a directory of its own, for what a replay
// writes to the disk: a recording is only read.
type session struct {
	r       *recording.Recording
	tools   *toolbox.Tools
	monitor *qemu.Monitor
	dir     string
	disk    string // on this machine
	onward  bool   // it does not go back, see [arch.Recorded]
	remove  func() error
	said    vm.Tail
	kill    context.CancelFunc
	gone    chan struct{} // closed when QEMU has ended
}

// sessionPrefix begins the name of a session's directory, in the recording's.
const sessionPrefix = "session-"

// The disk's file in it.
const sessionDisk = "disk.qcow2"

// mostDisk is more than a disk with its states has.
const mostDisk = "1T"

// QEMUError says that the QEMU here is not the one that recorded.
type QEMUError struct {
	Name        string
	Want, There recording.QEMU
}

func (e *QEMUError) Error() string {
	return fmt.Sprintf("replay %s: QEMU %s (sha256 %s) recorded it, and here is %s (sha256 %s): "+
		"a replay would hang", e.Name, e.Want.Version, e.Want.Digest.Short(), e.There.Version, e.There.Digest.Short())
}

// Hint says what can be done.
func (e *QEMUError) Hint() string {
	return "a recording has the kimg.lock of its build, and kimg makes the image of tools that it pins from the " +
		"package archive: this one has none, or not all of its packages could be had; use the kimg that recorded it"
}

// othersError says that a recording of another's, which may be read, has no states to go back to yet.
type othersError struct {
	name string
	err  error
}

func (e *othersError) Error() string {
	return fmt.Sprintf("replay %s: its states to go back to are not there yet, and its directory is another's: %v",
		e.name, e.err)
}

func (e *othersError) Unwrap() error { return e.err }

// Hint says what can be done.
func (e *othersError) Hint() string {
	return "have its owner go once: kimg debug --replay " + e.name + " --batch"
}

// DivergedError says that a replay has left its recording.
type DivergedError struct {
	Name   string
	Icount uint64
	What   string
}

func (e *DivergedError) Error() string {
	return fmt.Sprintf("replay %s: it has left the recording at instruction %d: %s", e.Name, e.Icount, e.What)
}

// Hint says what can be done.
func (e *DivergedError) Hint() string {
	return "kimg recording verify " + e.Name + " replays it once more; if it stays so, record anew"
}

// open begins a session on a disk of the recording, or with whole on a copy of it that is to be kept. Close ends it.
func open(
	ctx context.Context, box toolbox.Toolbox, r *recording.Recording, disk string, whole, stub bool,
) (_ *session, err error) {
	s := &session{r: r, gone: make(chan struct{}), kill: func() {}}
	sweep(r.Dir())
	s.dir, s.remove, err = filelock.NewDir(r.Dir(), sessionPrefix)
	if errors.Is(err, fs.ErrPermission) && !whole { // another's, who lets us read it
		s.dir, s.remove, err = filelock.NewDir(os.TempDir(), "kimg-replay-")
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, &othersError{r.Name(), err}
	}
	if err != nil {
		return nil, fmt.Errorf("replay %s: %w", r.Name(), err)
	}
	started := false
	defer func() {
		if err != nil {
			if !started {
				close(s.gone)
			}
			err = errors.Join(err, s.close(ctx))
		}
	}()
	s.disk = filepath.Join(s.dir, sessionDisk)
	if whole {
		err = recording.Copy(ctx, r.Path(disk), s.disk)
	} else {
		err = recording.CheckOverlay(r.Name(), r.Path(disk))
	}
	if err != nil {
		return nil, fmt.Errorf("replay %s: %w", r.Name(), err)
	}
	s.tools, err = box.Open(ctx, toolbox.Mounts{Dir: r.Dir(), Files: gdbArtifacts(),
		Shares: []toolbox.Share{{Dir: s.dir, Write: true}}})
	if err != nil {
		return nil, err
	}
	a, err := arch.Parse(r.Arch)
	if err != nil {
		return nil, err
	}
	s.onward = a.Recorded.Onward
	there, err := identify(ctx, s.tools, a)
	if err != nil {
		return nil, err
	}
	if there.Digest != r.QEMU.Digest {
		return nil, &QEMUError{r.Name(), r.QEMU, there}
	}
	p := place{tools: s.tools, log: s.tools.Path(recording.Tape + "/" + recording.Log),
		disk: s.tools.Shares[0] + "/" + sessionDisk, output: s.tools.Shares[0], from: begin, stub: stub}
	if !whole {
		p.below = s.tools.Path(disk)
		if _, err := output(ctx, s.tools, "qemu-img", "create", "-q", "-f", "qcow2", p.disk, mostDisk); err != nil {
			return nil, fmt.Errorf("replay %s: make a file for its writes: %w", r.Name(), err)
		}
	}
	args, err := argv(r, p)
	if err != nil {
		return nil, err
	}
	var running context.Context
	running, s.kill = context.WithCancel(context.WithoutCancel(ctx))
	wait, err := s.tools.Start(running, toolbox.Program{Args: args, Stdout: &s.said, Stderr: &s.said})
	if err != nil {
		return nil, err
	}
	started = true
	go func() { defer close(s.gone); _ = wait() }() // what it said tells more
	conn, err := dial(ctx, s.tools, s.gone)
	if err == nil {
		s.monitor, err = qemu.OpenMonitor(ctx, conn, "replay a guest")
	}
	if err != nil && ctx.Err() == nil {
		return nil, s.ended(err)
	}
	return s, err
}

// ended is the error of a QEMU that gave up, or would not listen.
func (s *session) ended(err error) error {
	select {
	case <-s.gone:
		return fmt.Errorf("replay %s: QEMU ended: %s", s.r.Name(), strings.Join(s.said.Lines(), "; "))
	case <-time.After(time.Second):
		return err
	}
}

// close ends QEMU, and removes the session's files.
func (s *session) close(ctx context.Context) (err error) {
	if s.monitor != nil {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		_ = s.monitor.Do(ending, "quit", nil, nil) // it may have ended
		select {
		case <-s.gone:
		case <-ending.Done():
		}
		cancel()
		s.monitor.Close()
	}
	s.kill()
	if s.tools != nil {
		err = s.tools.Close(ctx)
	}
	<-s.gone
	return errors.Join(err, s.remove())
}

// sweep removes the directories of sessions that were killed.
func sweep(dir string) {
	found, _ := filepath.Glob(filepath.Join(dir, sessionPrefix+"*"))
	for _, dir := range found {
		if lock, err := filelock.Try(filepath.Join(dir, filelock.DirLock), os.O_RDONLY); err == nil {
			_ = os.RemoveAll(dir)
			_ = lock.Close()
		}
	}
}

// stillLimit is how long a replay may stand at an instruction before it counts as lost.
const stillLimit = 20 * time.Second

// askPause is how often a replay is asked how far it is.
const askPause = 200 * time.Millisecond

// never is an instruction that no guest comes to. Without any to stop at, a replay stands still after a state was kept.
const never = 1 << 62

// cutLog is what QEMU says at the end of a log that ends in the middle.
const cutLog = "error reading the replay data"

// reached is where a replay stopped.
type reached struct {
	icount uint64
	over   bool // the guest has ended, or the log
}

// run replays to an instruction (0: to the end), beginning at the nearest state before it where seek is set, and
// tells how far it is.
func (s *session) run(ctx context.Context, icount uint64, seek bool, tell func(uint64)) (at reached, err error) {
	command := "replay-break"
	if seek {
		command = "replay-seek"
	}
	for len(s.monitor.Events()) > 0 {
		<-s.monitor.Events()
	}
	from, err := s.monitor.ReplayState(ctx)
	if err != nil {
		return at, s.ended(err)
	}
	at.icount = from.Icount
	if seek && at.icount == 0 {
		// A state has been loaded, and another one may be now. Where the machine has flash, QEMU 10 crashes if the
		// guest did not run between the two (pflash_post_load).
		if at, err = s.run(ctx, 1, false, nil); err != nil || at.over {
			return at, err
		}
	}
	to := icount
	if to == 0 {
		to = never
	}
	if err := s.monitor.Do(ctx, command, map[string]uint64{"icount": to}, nil); err != nil {
		return at, s.ended(err)
	}
	if !seek {
		if err := s.monitor.Do(ctx, "cont", nil, nil); err != nil {
			return at, s.ended(err)
		}
	}
	ask := time.NewTicker(askPause)
	defer ask.Stop()
	moved := time.Now()
	for {
		select {
		case e := <-s.monitor.Events():
			if e.Name != "STOP" && e.Name != "SHUTDOWN" {
				continue
			}
			state, err := s.monitor.ReplayState(ctx)
			if err != nil {
				return at, s.ended(err)
			}
			if e.Name == "STOP" && icount > 0 && state.Icount < icount {
				continue // of a state that was loaded on the way
			}
			return reached{state.Icount, e.Name == "SHUTDOWN" || icount == 0}, nil
		case <-s.gone:
			// The end of a log that was cut by a kill; QEMU has no other way to say it.
			if strings.Contains(strings.Join(s.said.Lines(), ""), cutLog) {
				return reached{at.icount, true}, nil
			}
			return at, s.ended(nil)
		case <-ask.C:
			state, err := s.monitor.ReplayState(ctx)
			if err != nil {
				continue // it ends just now
			}
			if state.Icount != at.icount {
				at.icount, moved = state.Icount, time.Now()
				if tell != nil {
					tell(state.Icount)
				}
			} else if time.Since(moved) > stillLimit {
				return at, &DivergedError{s.r.Name(), at.icount,
					fmt.Sprintf("it has stood there for %v", stillLimit)}
			}
		case <-ctx.Done():
			return at, context.Cause(ctx)
		}
	}
}
