package container

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// What a caller can distinguish with errors.Is.
var (
	ErrNoEngine   = errors.New("no container engine answers")
	ErrPermission = errors.New("a container engine is there, but this user may not use it")
	ErrNoSpace    = errors.New("the container engine has no space left")
)

// cleanupTime bounds what is done after the end of a context.
const cleanupTime = 30 * time.Second

// detached is the context of work that the end of ctx must not stop: removing what
// was made, and making what can be removed only once it has a name.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
}

// removeTime bounds the removal of what may be large: an engine takes a minute for a volume of a kernel's objects.
const removeTime = 10 * time.Minute

// patient is detached for such a removal; once ctx has ended it has no more time than anything else.
func patient(ctx context.Context) (context.Context, context.CancelFunc) {
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTime)
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(cleanupTime, cancel) })
	return work, func() {
		stop()
		cancel()
	}
}

// fault words an engine's error. The end of ctx goes before whatever it led to.
func fault(ctx context.Context, doing string, err error) error {
	var lost *sshError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", doing, ended(ctx))
	case errors.As(err, &lost):
		return fmt.Errorf("%s: %w", doing, lost) // without the client's request around it
	case strings.Contains(err.Error(), "no space left on device"):
		return fmt.Errorf("%s: %w: %w", doing, ErrNoSpace, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// ended says that ctx ended, and why: both are there for errors.Is.
func ended(ctx context.Context) error {
	if why := context.Cause(ctx); why != ctx.Err() {
		return fmt.Errorf("%w: %w", ctx.Err(), why)
	}
	return ctx.Err()
}
