package container

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// lease is a caller's reader in the hands of an HTTP request or a connection, which may
// still be reading when the call that was given the reader returns.
type lease struct {
	r io.Reader

	mu   sync.Mutex    // held while a Read is under way
	ends chan struct{} // closed by release
	end  bool          // r has ended
	err  error         // the first error of r that is not its end
}

var errReleased = errors.New("the reader was released")

func acquire(r io.Reader) *lease { return &lease{r: r, ends: make(chan struct{})} }

func (l *lease) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.ends:
		return 0, errReleased
	default:
	}
	n, err := l.r.Read(p)
	if err == io.EOF {
		l.end = true
	} else if err != nil && l.err == nil {
		l.err = err
	}
	return n, err
}

// fault returns the error that r ended with, if it was not its end. It does not wait for a Read that is under way.
func (l *lease) fault() error {
	if !l.mu.TryLock() {
		return nil
	}
	defer l.mu.Unlock()
	return l.err
}

// ended reports whether r was read to its end. It does not wait for a Read that is under way.
func (l *lease) ended() bool {
	if !l.mu.TryLock() {
		return false
	}
	defer l.mu.Unlock()
	return l.end
}

// release ends the lease: no Read of r begins after it. A Read that is under way is waited for, but not long:
// nothing can interrupt it. A file may be read by two at once and is not waited for, so a terminal costs no time.
func (l *lease) release() {
	close(l.ends)
	if _, ok := l.r.(*os.File); ok {
		return
	}
	for until := time.Now().Add(time.Second); !l.mu.TryLock(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			return
		}
	}
	l.mu.Unlock()
}
