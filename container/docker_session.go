package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/pkg/stdcopy"
)

// streams is what a process is connected to.
type streams struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	tty            bool
	resize         <-chan Winsize
	setSize        func(context.Context, Winsize) error
}

// session copies between a hijacked connection and streams until the process
// has closed its output, or until something fails.
type session struct {
	conn types.HijackedResponse
	kill func() // ends the process; called at most once, and only on a failure

	from   *elastic
	output chan struct{} // closed when the output has been copied
	failed chan struct{} // closed by the first failure
	done   chan struct{} // closed by close
	stdin  *lease
	stop   func() bool // ends the watch on the context

	mu     sync.Mutex
	err    error // the first failure
	closed bool
}

// converse starts the copying. The end of ctx is a failure like any other: the
// connection is closed and the process killed.
func converse(ctx context.Context, conn types.HijackedResponse, with streams, kill func()) *session {
	s := &session{conn: conn, kill: kill,
		output: make(chan struct{}), failed: make(chan struct{}), done: make(chan struct{})}
	s.from = newElastic(untilReset{conn.Reader}, s.failed)
	go func() {
		defer close(s.output)
		s.copyOut(with)
	}()
	if with.stdin != nil {
		s.stdin = acquire(with.stdin)
		go s.copyIn(with.tty)
	}
	if with.tty && with.resize != nil {
		go s.follow(context.WithoutCancel(ctx), with)
	}
	s.stop = context.AfterFunc(ctx, func() { s.fail(ended(ctx)) })
	return s
}

func (s *session) copyOut(to streams) {
	if to.stdout == nil {
		to.stdout = io.Discard
	}
	if to.stderr == nil {
		to.stderr = io.Discard
	}
	var err error
	if to.tty {
		_, err = io.Copy(to.stdout, s.from)
	} else {
		_, err = stdcopy.StdCopy(to.stdout, to.stderr, s.from)
	}
	if err != nil {
		s.fail(fmt.Errorf("copy output: %w", err))
	}
}

// untilReset reads a connection whose other side closes it with input unread, because the process ended without
// reading it: then a reset is its end. Should the engine itself have died, asking for the exit status fails.
type untilReset struct{ io.Reader }

func (r untilReset) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if errors.Is(err, syscall.ECONNRESET) {
		err = io.EOF
	}
	return n, err
}

// copyIn closes the process's input only when the input has ended: a reader that
// fails half way must not look like one that is complete. A terminal has no end
// of input but the character that says so, and Docker would close its output too.
func (s *session) copyIn(tty bool) {
	_, err := io.Copy(s.conn.Conn, s.stdin)
	if bad := s.stdin.fault(); bad != nil {
		s.fail(fmt.Errorf("read input: %w", bad))
		return
	}
	if err == nil && !tty {
		s.conn.CloseWrite() // an error means that the process is gone: its status will say why
	}
}

func (s *session) follow(ctx context.Context, with streams) {
	for {
		select {
		case size, ok := <-with.resize:
			if !ok {
				return
			}
			call, cancel := context.WithTimeout(ctx, 5*time.Second)
			with.setSize(call, size) // a process that has just ended cannot be resized
			cancel()
		case <-s.done:
			return
		}
	}
}

// fail records why the session ends early and ends it. After close it does nothing.
func (s *session) fail(err error) {
	s.mu.Lock()
	first := s.err == nil && !s.closed
	if first {
		s.err = err
		close(s.failed)
	}
	s.mu.Unlock()
	if first {
		s.conn.Close()
		s.kill()
	}
}

// drain waits until all output has been copied and returns the failure, or nil.
// After a failure a writer of the caller's that blocks is not waited for long.
func (s *session) drain() error {
	select {
	case <-s.output:
	case <-s.failed:
		select {
		case <-s.output:
		case <-time.After(2 * time.Second):
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// end is fail and close, unless the session has been closed.
func (s *session) end(err error) {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if !closed {
		s.fail(err)
		s.drain()
		s.close()
	}
}

// close releases everything. It may be called again.
func (s *session) close() {
	s.mu.Lock()
	again := s.closed
	s.closed = true
	s.mu.Unlock()
	if again {
		return
	}
	s.stop()
	close(s.done)
	s.conn.Close()
	if s.stdin != nil {
		s.stdin.release()
	}
}

var errRemoved = errors.New("the container was removed")
