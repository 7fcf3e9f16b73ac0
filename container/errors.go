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
	if text := err.Error(); strings.Contains(text, "OCI runtime") && !strings.Contains(text, "exec: ") {
		err = &RuntimeError{err} // and not a program that is not there
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// RuntimeError says that the program that makes the engine's containers (runc, crun) refused to make one.
type RuntimeError struct{ Err error }

func (e *RuntimeError) Error() string { return e.Err.Error() }

func (e *RuntimeError) Unwrap() error { return e.Err }

// Hint says what the user can do about the usual reasons.
func (e *RuntimeError) Hint() string {
	const conf = "in ~/.config/containers/containers.conf (root's: /etc/containers/containers.conf) " +
		"and start its service anew"
	text := strings.ToLower(e.Error())
	switch {
	case strings.Contains(text, "cgroup"):
		return `the engine does not get along with this machine's cgroups: for Podman, write runtime = "runc" and ` +
			`cgroup_manager = "cgroupfs" below [engine] ` + conf
	case strings.Contains(text, "rlimit"):
		return `the engine may not raise limits: for Podman, write default_ulimits = ["nofile=1024:1024", ` +
			`"nproc=1024:1024"] below [containers] ` + conf
	}
	return "the engine cannot make such a container, whoever asks for it: its log says more"
}

// ended says that ctx ended, and why: both are there for errors.Is.
func ended(ctx context.Context) error {
	if why := context.Cause(ctx); why != ctx.Err() {
		return fmt.Errorf("%w: %w", ctx.Err(), why)
	}
	return ctx.Err()
}
