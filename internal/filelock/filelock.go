// Package filelock keeps two processes of kimg on one machine, and two goroutines
// of one process, from working on the same thing at once.
package filelock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
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

// ErrHeld means that somebody else, who may be in this process, holds the lock.
var ErrHeld = errors.New("it is locked")

// Try opens path with flag and locks it, or gives ErrHeld. The lock ends when the file is closed.
func Try(path string, flag int) (*os.File, error) { return try(path, flag, unix.LOCK_EX) }

// Share is Try for a lock that several may have at once, and nobody beside one that Try gave.
func Share(path string, flag int) (*os.File, error) { return try(path, flag, unix.LOCK_SH) }

func try(path string, flag, how int) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, flag, 0o644)
		if err != nil {
			return nil, err
		}
		err = lock(f, how|unix.LOCK_NB)
		if err == nil {
			var same bool
			if same, err = isStill(f, path); err == nil && same {
				return f, nil
			}
		}
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrHeld
		}
		if err != nil {
			return nil, err
		}
		// It was renamed or removed between being opened and being locked.
	}
}

func lock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Dir locks a directory, for this process alone or together with others, and waits for it. It is for moments that are
// better kept apart and do no great harm where they cannot be: NFS locks no directories.
func Dir(dir string, alone bool) (unlock func()) {
	how := unix.LOCK_SH
	if alone {
		how = unix.LOCK_EX
	}
	f, err := os.Open(dir)
	if err != nil {
		return func() {}
	}
	_ = lock(f, how)
	return func() { _ = f.Close() }
}

// isStill reports whether path still is the open file.
func isStill(f *os.File, path string) (bool, error) {
	mine, err := f.Stat()
	if err != nil {
		return false, err
	}
	now, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(mine, now), err
}

// DirLock is the file in a directory of NewDir that is locked while its maker runs.
const DirLock = ".lock"

// NewFile makes a temporary file as os.CreateTemp does, which no Sweep removes until it is closed.
func NewFile(dir, pattern string) (*os.File, error) {
	return retry(func() (*os.File, error) {
		f, err := os.CreateTemp(dir, pattern)
		if err != nil {
			return nil, err
		}
		err = lock(f, unix.LOCK_EX|unix.LOCK_NB)
		if same, bad := isStill(f, f.Name()); err == nil && bad == nil && same {
			return f, nil
		}
		_ = f.Close()
		_ = os.Remove(f.Name())
		if err == nil || errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrHeld // by a Sweep
		}
		return nil, err
	})
}

// NewDir makes a temporary directory as os.MkdirTemp does, which no Sweep removes until remove is called.
func NewDir(parent, pattern string) (dir string, remove func() error, err error) {
	f, err := retry(func() (*os.File, error) {
		dir, err = os.MkdirTemp(parent, pattern)
		if err != nil {
			return nil, err
		}
		f, err := Try(filepath.Join(dir, DirLock), os.O_RDWR|os.O_CREATE)
		if err != nil {
			_ = os.RemoveAll(dir)
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = ErrHeld // a Sweep removed the directory
		}
		return f, err
	})
	if err != nil {
		return "", nil, err
	}
	return dir, func() error { return errors.Join(os.RemoveAll(dir), f.Close()) }, nil
}

// retry repeats what a Sweep interfered with.
func retry(do func() (*os.File, error)) (*os.File, error) {
	for tries := 1; ; tries++ {
		f, err := do()
		if !errors.Is(err, ErrHeld) || tries == 10 {
			return f, err
		}
		time.Sleep(time.Duration(tries) * time.Millisecond)
	}
}

// unknownAge is how long what has no lock that could be asked is left alone.
const unknownAge = 24 * time.Hour

// Sweep removes the files and directories in dir whose maker has ended and that were
// last written to longer ago than age. Best effort: the next Sweep tries again.
func Sweep(dir string, age time.Duration) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			sweepOne(filepath.Join(dir, e.Name()), info, age)
		}
	}
}

func sweepOne(path string, info fs.FileInfo, age time.Duration) {
	held := path
	if info.IsDir() {
		held = filepath.Join(path, DirLock)
	}
	f, err := openRegular(held)
	if err == nil {
		defer f.Close()
		err = lock(f, unix.LOCK_EX|unix.LOCK_NB)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		return
	}
	if err != nil {
		age = max(age, unknownAge)
	}
	if time.Since(info.ModTime()) >= age {
		_ = os.RemoveAll(path)
	}
}

// openRegular opens a file without waiting for the other end of one that is a pipe.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		_ = f.Close()
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	return f, nil
}
