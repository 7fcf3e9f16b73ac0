package replay

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/recording"
	"github.com/kimg/kimg/internal/splat"
	"github.com/kimg/kimg/internal/toolbox"
)

// Verify compares every file with what was recorded, replays the recording, and compares its console and its last
// instruction. tell hears how far it is, in instructions.
func Verify(ctx context.Context, box toolbox.Toolbox, r *recording.Recording, tell func(done, all uint64)) error {
	done, err := r.Use()
	if err != nil {
		return err
	}
	defer done()
	if err := r.Verify(ctx); err != nil {
		return err
	}
	return pass(ctx, box, r, nil, tell)
}

// pass replays a recording from its beginning to its end and compares it. Where points are not nil it keeps
// states there, to go back to.
func pass(
	ctx context.Context, box toolbox.Toolbox, r *recording.Recording, points []uint64, tell func(done, all uint64),
) (err error) {
	s, err := open(ctx, box, r, recording.Tape+"/"+recording.Overlay, points != nil, false)
	if err != nil {
		return err
	}
	closed := false
	defer func() {
		if !closed {
			err = errors.Join(err, s.close(ctx))
		}
	}()
	said := func(n uint64) {
		if tell != nil {
			tell(n, r.End.Icount)
		}
	}
	var at reached
	for _, n := range points {
		if at, err = s.run(ctx, n, false, said); err != nil {
			return err
		}
		if at.over {
			break
		}
		if err := s.keepState(ctx, &at); err != nil {
			return err
		}
	}
	if !at.over {
		if at, err = s.run(ctx, 0, false, said); err != nil {
			return err
		}
	}
	if err := s.compare(at); err != nil {
		return err
	}
	if r.End.Replayed == 0 || at.icount < r.End.Replayed {
		r.End.Replayed = at.icount
		if err := r.Save(); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	if points == nil {
		return nil
	}
	// QEMU writes the disk out at its end.
	closed = true
	return s.finish(ctx, r.Path(recording.Points))
}

// finish ends the session, and keeps its disk.
func (s *session) finish(ctx context.Context, to string) error {
	_ = s.monitor.Do(ctx, "quit", nil, nil) // a cut log has ended it
	<-s.gone
	return errors.Join(os.Rename(s.disk, to), s.close(ctx))
}

// The distance of the states that a pass keeps, in instructions: a replay has some 20 to 50 million a second. A state
// takes 20 to 40 MB of disk.
const (
	nearStep  = 20_000_000
	nearRange = 100_000_000 // before where one goes back from
	farPoints = 16
	blindStep = 100_000_000 // where the length is not known
	blindMost = 64
)

// pointsOf are the instructions to keep states at, of a recording that one goes back from its end in, and from the
// places of from.
func pointsOf(all uint64, from ...uint64) []uint64 {
	list := []uint64{} // not nil: they are wanted, if there are few
	if all == 0 {
		for n := uint64(1); n <= blindMost; n++ {
			list = append(list, n*blindStep)
		}
		return list
	}
	for at := max(nearStep, all/farPoints); at+nearStep/2 < all; at += max(nearStep, all/farPoints) {
		list = append(list, at)
	}
	near := nearPoints(all, from...)
	list = slices.DeleteFunc(list, func(far uint64) bool { // those near it are in its way
		return slices.ContainsFunc(near, func(at uint64) bool { return max(at, far)-min(at, far) <= nearStep/2 })
	})
	list = append(list, near...)
	slices.Sort(list)
	return list
}

// nearPoints are those of them that are near the end, and near the places of from.
func nearPoints(all uint64, from ...uint64) (list []uint64) {
	for _, to := range append(from, all) {
		to = min(to, all)
		for at := max(to-min(to, nearRange), nearStep); at+nearStep/2 < to; at += nearStep {
			list = append(list, at)
		}
	}
	slices.Sort(list)
	kept := list[:0]
	for _, at := range list {
		if len(kept) == 0 || at-kept[len(kept)-1] > nearStep/2 {
			kept = append(kept, at)
		}
	}
	return kept
}

// toldAt are instructions about where the console told of what the recording is asked about; none: not known.
func toldAt(r *recording.Recording) (list []uint64) {
	reports, err := Reports(r)
	if err != nil {
		return nil // a replay of it says so
	}
	last := splat.Last(reports)
	if last == nil {
		return nil
	}
	after, before, ok := r.Wrote(last.Line)
	if ok {
		list = append(list, before)
	}
	if ok && before-after > nearRange { // QEMU answers late where the kernel prints much
		list = append(list, after+2*nearStep)
	}
	return list
}

// keepTries is how often a state is tried to be kept: QEMU may say that it cannot right now.
const keepTries = 50

func (s *session) keepState(ctx context.Context, at *reached) (err error) {
	for n := range uint64(keepTries) {
		err = s.monitor.Human(ctx, fmt.Sprintf("savevm i%d", at.icount))
		if err == nil || !strings.Contains(err.Error(), "right now") {
			return err
		}
		if *at, err = s.run(ctx, at.icount+1000*(n+1), false, nil); err != nil || at.over {
			return err
		}
	}
	return err
}

// overrun bounds what a processor does after QEMU has noted the end, in instructions.
const overrun = 1_000_000

// sameEnd says whether a replay that stopped at an instruction has come to the end of its recording. QEMU replays every
// event at its instruction; but how far the processor goes on when the guest has asked for its end, before QEMU halts
// it, is a matter of the machine's load: in the recording, and in each replay.
func sameEnd(end recording.End, at uint64) bool {
	switch {
	case end.How == recording.Killed:
		return true
	case end.Icount == 0:
		return at == end.Replayed
	}
	return at <= end.Icount && end.Icount-at < overrun
}

// Instructions is how many a recording has, of which a replay may leave out the last, idle ones.
func Instructions(r *recording.Recording) uint64 { return cmp.Or(r.End.Icount, r.End.Replayed) }

// compare is an error where the replay has not said, or not lasted, what the recording has.
func (s *session) compare(at reached) error {
	r := s.r
	if !sameEnd(r.End, at.icount) {
		return &DivergedError{r.Name(), at.icount,
			fmt.Sprintf("it ended there, and the recording at %d", Instructions(r))}
	}
	was, err := os.ReadFile(r.Path(recording.Tape, recording.Console))
	if err != nil {
		return fmt.Errorf("compare consoles: %w", err)
	}
	is, err := reading.Small(s.dir+"/"+recording.Console, int64(len(was))+1)
	var tooLarge error
	if err != nil && !errors.Is(err, io.EOF) {
		tooLarge = err
	}
	switch {
	case tooLarge != nil:
		return &DivergedError{r.Name(), at.icount, "its console: " + tooLarge.Error()}
	case r.End.How == recording.Killed && bytes.HasPrefix(was, is):
		return nil
	case !bytes.Equal(was, is):
		n := 0
		for n < min(len(was), len(is)) && was[n] == is[n] {
			n++
		}
		return &DivergedError{r.Name(), at.icount, fmt.Sprintf("its console differs from byte %d on", n)}
	}
	return nil
}
