// Package filelock keeps two processes of kimg on one machine, and two goroutines
// of one process, from working on the same thing at once.
package filelock

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// poll is how often a lock that another process holds is tried.
const poll = 50 * time.Millisecond

// Take locks file, which is made where it is missing, with its directory, and stays: were it removed, the next
// process could lock a new file while one that waits holds the old. Where another process holds it, waiting is
// called once and Take waits until that one unlocks it or ctx ends; for other goroutines of this process, it waits
// without a call. The end of the process unlocks too.
func Take(ctx context.Context, file string, waiting func()) (unlock func(), err error) {
	if file, err = filepath.Abs(file); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, err
	}
	leave, err := enter(ctx, file)
	if err != nil {
		return nil, err
	}
	f, err := Try(file, os.O_RDWR|os.O_CREATE)
	if errors.Is(err, ErrHeld) {
		waiting()
		f, err = Wait(ctx, file)
	}
	if err != nil {
		leave()
		return nil, err
	}
	return func() {
		_ = f.Close()
		leave()
	}, nil
}

// Wait is Try for a file that is made where it is missing, until its lock is free or ctx ends.
func Wait(ctx context.Context, file string) (*os.File, error) {
	for {
		f, err := Try(file, os.O_RDWR|os.O_CREATE)
		if !errors.Is(err, ErrHeld) {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(poll):
		}
	}
}

// here are the locks of this process: whoever holds a file has put a value into
// its channel, and the channel is there as long as somebody holds it or waits.
var (
	mu   sync.Mutex
	here = map[string]*holders{}
)

type holders struct {
	turn chan struct{}
	n    int
}

// enter waits until no other goroutine of this process holds the file.
func enter(ctx context.Context, file string) (leave func(), err error) {
	mu.Lock()
	h := here[file]
	if h == nil {
		h = &holders{turn: make(chan struct{}, 1)}
		here[file] = h
	}
	h.n++
	mu.Unlock()
	gone := func() {
		mu.Lock()
		defer mu.Unlock()
		if h.n--; h.n == 0 {
			delete(here, file)
		}
	}
	select {
	case h.turn <- struct{}{}:
		return func() { <-h.turn; gone() }, nil
	case <-ctx.Done():
		gone()
		return nil, ctx.Err()
	}
}
