package recording

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/kimg/kimg/internal/filelock"
)

// logHeader is what QEMU writes over the log's first bytes when it ends: its version, REPLAY_VERSION of
// replay/replay-internal.h. A recording is bound to its QEMU by digest, so that this one need not be told from others.
var logHeader = [4]byte{0x00, 0xe0, 0x20, 0x0c}

// endingLimit is how long a QEMU may live on whose kimg was killed.
const endingLimit = 20 * time.Second

// mend makes a recording whole whose kimg was killed: then nobody has noted its end, and QEMU not the log's header.
func (r *Recording) mend(ctx context.Context) error {
	if err := r.hold(); errors.Is(err, filelock.ErrHeld) {
		return &Error{"use", r.name, "it is being made", "end the guest first"}
	} else if err != nil {
		return fmt.Errorf("mend recording %s: %w", r.name, err)
	}
	defer r.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, endingLimit,
		&Error{"mend", r.name, "its QEMU still runs", "end it: docker ps lists the engine's containers"})
	defer cancel()
	for inUse(r.Path(Tape, Overlay)) {
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err := mendLog(r.Path(Tape, Log)); err != nil {
		return &Error{"mend", r.name, err.Error(), "it was killed before there was anything to replay: " +
			"kimg recording rm " + r.name}
	}
	r.End.How = Killed
	if err := r.Seal(ctx); err != nil {
		return fmt.Errorf("mend recording %s: %w", r.name, err)
	}
	return nil
}

// CloseLog gives the log its header where QEMU was killed before it could.
func (r *Recording) CloseLog() error { return mendLog(r.Path(Tape, Log)) }

// minLog is how long a log is that has an event, in bytes: behind the version and a number of 8.
const minLog = 13

func mendLog(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var header [4]byte
	if _, err := io.ReadFull(f, header[:]); err != nil {
		return errors.New("its log is empty")
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() < minLog {
		return errors.New("its log is empty")
	}
	if header == logHeader {
		return nil
	}
	if header != [4]byte{} {
		return fmt.Errorf("its log begins with %x", header)
	}
	if _, err := f.WriteAt(logHeader[:], 0); err != nil {
		return err
	}
	return f.Sync()
}
