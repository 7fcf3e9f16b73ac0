package container

import (
	"errors"
	"io"
	"sync/atomic"
	"time"
)

// An elastic reader goes on reading its source while it is not read itself. Docker drops the rest of a process's
// output when that is not read within two seconds of the process's end, and says nothing (20.10, daemon/monitor.go;
// at most some 100 KB of it are then still under way). A reader that is busy elsewhere for that long, with a disk
// or a user, must not lose data.
//
// To read without any limit would fill the memory with what a fast process writes, so beyond a few pieces it takes
// one every so often: enough to keep the end from being late, and not much memory in a minute.
type elastic struct {
	pieces chan []byte
	taken  chan struct{}
	stop   <-chan struct{}
	rest   []byte
	err    error // why the source ended; set before pieces is closed
	full   atomic.Bool
}

const (
	pieceSize   = 64 << 10 // bytes
	manyPieces  = 16       // from here on the source is slowed down
	mostPieces  = 2048     // and here it is stopped
	trickleTime = 50 * time.Millisecond
)

var errStopped = errors.New("the reader was stopped")

// newElastic reads src until it ends. After stop is closed it ends at src's next
// end or error, and gives nothing more.
func newElastic(src io.Reader, stop <-chan struct{}) *elastic {
	e := &elastic{pieces: make(chan []byte, mostPieces), taken: make(chan struct{}, 1), stop: stop}
	go e.pump(src)
	return e
}

func (e *elastic) pump(src io.Reader) {
	defer close(e.pieces)
	buf := make([]byte, pieceSize)
	for {
		n, err := src.Read(buf)
		if n > 0 && !e.put(append([]byte(nil), buf[:n]...)) {
			e.err = errStopped
			return
		}
		if err != nil {
			e.err = err
			return
		}
	}
}

// put adds a piece, slowly when there are many.
func (e *elastic) put(piece []byte) bool {
	if len(e.pieces) >= manyPieces {
		late := time.NewTimer(trickleTime)
		defer late.Stop()
		for late := late.C; late != nil && len(e.pieces) >= manyPieces; {
			select {
			case <-e.taken:
			case <-late:
				late = nil
			case <-e.stop:
				return false
			}
		}
	}
	e.full.Store(len(e.pieces) == cap(e.pieces))
	defer e.full.Store(false)
	select {
	case e.pieces <- piece:
		return true
	case <-e.stop:
		return false
	}
}

func (e *elastic) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		select {
		case <-e.stop:
			return 0, errStopped
		default:
		}
		var ok bool
		if e.rest, ok = <-e.pieces; !ok {
			return 0, e.err
		}
		select {
		case e.taken <- struct{}{}:
		default:
		}
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

// late reports that the source is stopped because nothing was read for a long time.
func (e *elastic) late() bool { return e.full.Load() }
