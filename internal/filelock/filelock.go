// Package filelock keeps two processes of kimg on one machine from working on
// the same thing at once. It must not know what the thing is.
package filelock

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// poll is how often a lock that another process holds is tried.
const poll = 200 * time.Millisecond

// Take locks file, which is made where it is missing, with its directory, and
// stays: were it removed, the next process could lock a new file while one that
// waits holds the old. Where another process holds it, waiting is called once
// and Take waits until that one lets go or ctx ends. The end of the process
// unlocks too.
func Take(ctx context.Context, file string, waiting func()) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, err
	}
	l := flock.New(file)
	ok, err := l.TryLock()
	if err == nil && !ok {
		waiting()
		_, err = l.TryLockContext(ctx, poll)
	}
	if err != nil {
		return nil, err
	}
	return func() { _ = l.Unlock() }, nil // nothing is left to do about it
}
