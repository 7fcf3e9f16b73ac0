package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/kimg/kimg/internal/sandbox"
)

// A job is a process in a sandbox with the streams of its caller's.
//
// Not even a file of the caller's is handed over as it is: by /proc/self/fd a process can open a file anew, for more
// than it was opened for.
type job struct {
	process *sandbox.Running
	kill    func() error
	in      *lease
	ours    []*os.File // this side of its streams
	copies  sync.WaitGroup
	write   sync.Mutex // held during a Write to the caller's
	failed  chan struct{}
	done    chan struct{}
	stop    func() bool // ends the watch on the context

	mu     sync.Mutex
	err    error // the first failure
	closed bool
}

// straggle is how long the output of what a process has left running is waited for, while there is none.
const straggle = 2 * time.Second

// startJob starts a process. The end of ctx, and a stream of the caller's that fails, kill it: by kill, or alone.
func startJob(
	ctx context.Context, box *sandbox.Sandbox, p sandbox.Process, with streams, kill func() error,
) (_ *job, err error) {
	j := &job{kill: kill, failed: make(chan struct{}), done: make(chan struct{})}
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			_ = f.Close()
		}
		if err != nil {
			j.closeFiles()
		}
	}()
	pipe := func(reads bool) (mine, other *os.File, err error) {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, nil, err
		}
		mine, other = w, r
		if reads {
			mine, other = r, w
		}
		j.ours, theirs = append(j.ours, mine), append(theirs, other)
		return mine, other, nil
	}
	var in, out, bad *os.File
	if p.TTY = with.tty; !p.TTY {
		if with.stdin != nil {
			in, p.Stdin, err = pipe(false)
		}
		if err == nil && with.stdout != nil {
			out, p.Stdout, err = pipe(true)
		}
		switch {
		case err != nil:
			return nil, err
		case same(with.stderr, with.stdout):
			p.Stderr = p.Stdout // as it comes
		case with.stderr != nil:
			if bad, p.Stderr, err = pipe(true); err != nil {
				return nil, err
			}
		}
	}
	if j.process, err = box.Run(p); err != nil {
		return nil, err
	}
	if j.kill == nil {
		j.kill = func() error { return j.process.Signal(syscall.SIGKILL) }
	}
	if p.TTY {
		in, out = j.process.PTY, j.process.PTY
		j.ours = append(j.ours, in)
		if with.stdout == nil {
			with.stdout = io.Discard
		}
		if with.resize != nil {
			go j.follow(with.resize)
		}
	}
	if out != nil {
		j.copies.Go(func() { j.copyOut(with.stdout, out) })
	}
	if bad != nil {
		j.copies.Go(func() { j.copyOut(with.stderr, bad) })
	}
	if with.stdin != nil {
		j.in = acquire(with.stdin)
		go j.copyIn(in, p.TTY)
	}
	j.stop = context.AfterFunc(ctx, func() { j.fail(ended(ctx)) })
	return j, nil
}

// same reports whether two streams are one. Types that cannot be compared are not.
func same(a, b io.Writer) bool {
	defer func() { _ = recover() }()
	return a == b
}

// oneByOne passes output on to one writer at a time: callers' writers may have something in common.
type oneByOne struct {
	mu *sync.Mutex
	w  io.Writer
}

func (o oneByOne) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.Write(p)
}

func (j *job) copyOut(to io.Writer, from *os.File) {
	_, err := io.CopyBuffer(oneByOne{&j.write, to}, outputOf{j, from}, make([]byte, pieceSize))
	if err != nil {
		j.fail(fmt.Errorf("copy output: %w", err))
	}
}

// outputOf reads what a process writes: to the end, or until it has ended and what it left running is silent.
type outputOf struct {
	j *job
	f *os.File
}

func (r outputOf) Read(p []byte) (int, error) {
	for waited := false; ; waited = true {
		n, err := r.f.Read(p)
		switch {
		case errors.Is(err, syscall.EIO): // a terminal that nobody has open any more
			return n, io.EOF
		case n > 0 || !errors.Is(err, os.ErrDeadlineExceeded):
			return n, err
		case waited:
			return 0, io.EOF
		}
		_ = r.f.SetReadDeadline(time.Now().Add(straggle))
	}
}

// copyIn closes the process's input only when the input has ended: a reader that fails half way must not look like one
// that is complete. A terminal has no end of input but the character that says so.
func (j *job) copyIn(to *os.File, tty bool) {
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, j.in, make([]byte, pieceSize))
	if bad := j.in.fault(); bad != nil {
		j.fail(fmt.Errorf("read input: %w", bad))
	} else if err == nil && !tty {
		_ = to.Close() // other errors mean that the process reads no more
	}
}

func (j *job) follow(sizes <-chan Winsize) {
	for {
		select {
		case size, ok := <-sizes:
			if !ok {
				return
			}
			_ = j.process.Resize(uint16(size.Rows), uint16(size.Cols)) // one that has just been closed has no size
		case <-j.done:
			return
		}
	}
}

// fail records why the process ends early and kills it. After close it does nothing.
func (j *job) fail(err error) {
	j.mu.Lock()
	first := j.err == nil && !j.closed
	if first {
		j.err = err
		close(j.failed)
	}
	j.mu.Unlock()
	if first {
		_ = j.kill() // it fails only where the process, or the whole sandbox, has ended
	}
}

// wait returns when the process has ended and its output has been written. after is called in between.
func (j *job) wait(after func() error) (status int, err error) {
	defer j.close()
	status, err = j.process.Wait()
	if err == nil {
		err = after()
	}
	if err != nil {
		j.fail(err)
	}
	for _, f := range j.ours {
		_ = f.SetReadDeadline(time.Now().Add(straggle))
	}
	copied := make(chan struct{})
	go func() {
		j.copies.Wait()
		close(copied)
	}()
	select {
	case <-copied:
	case <-j.failed:
		select { // a writer of the caller's that blocks is not waited for long
		case <-copied:
		case <-time.After(straggle):
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return status, j.err
}

// close releases everything. It may be called again.
func (j *job) close() {
	j.mu.Lock()
	again := j.closed
	j.closed = true
	j.mu.Unlock()
	if again {
		return
	}
	j.stop()
	close(j.done)
	j.closeFiles()
	if j.in != nil {
		j.in.release()
	}
}

func (j *job) closeFiles() {
	for _, f := range j.ours {
		_ = f.Close()
	}
}
