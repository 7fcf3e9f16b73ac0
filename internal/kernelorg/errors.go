package kernelorg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/kimg/kimg/internal/fetch"
)

// UntrustedError tells that something was refused because of who vouches for it,
// or because it is not what they vouch for. Nothing of it was kept.
type UntrustedError struct {
	URL  string
	Why  string
	hint string
}

func (e *UntrustedError) Error() string { return fmt.Sprintf("%s is not trusted: %s", e.URL, e.Why) }

// Hint is the way out, for a person.
func (e *UntrustedError) Hint() string { return e.hint }

// The ways out of an UntrustedError.
const (
	hintWrong    = "try again, or take another mirror with --kernel-mirror, and see that this machine's clock is right; what is wrong is not taken with --allow-unsigned either"
	hintUnknown  = "add the signer's key with --kernel-keyring FILE, take another mirror with --kernel-mirror, or take it as it is with --allow-unsigned, which the manifest records"
	hintNoMirror = "see that --kernel-mirror names a mirror of " + DefaultBase + "/pub/linux/kernel and that no proxy answers in its place; for a mirror without signatures there is --allow-unsigned, which the manifest records"
)

// NotFoundError tells that a server does not have what was asked for. It is
// fs.ErrNotExist.
type NotFoundError struct {
	URL  string
	Why  string
	hint string
}

func (e *NotFoundError) Error() string { return fmt.Sprintf("%s: %s", e.URL, e.Why) }

// Hint is the way out, for a person.
func (e *NotFoundError) Hint() string { return e.hint }

// DownError tells that a server could not be asked, or gave no answer to use.
type DownError struct{ Err error }

func (e *DownError) Error() string { return e.Err.Error() }

// Unwrap gives the reason.
func (e *DownError) Unwrap() error { return e.Err }

// Hint is the way out, for a person.
func (e *DownError) Hint() string {
	return "check the network, name a mirror with --kernel-mirror or KIMG_KERNEL_MIRROR, or give --kernel a tarball that is on this machine"
}

// down gives its type to what the network did to a download.
func down(ctx context.Context, err error) error {
	var typed interface{ Hint() string }
	var get *fetch.GetError
	var file *fetch.Error
	if ctx.Err() == nil && (errors.As(err, &get) || errors.As(err, &file)) && !errors.As(err, &typed) {
		return &DownError{err}
	}
	return err
}

// Is makes it fs.ErrNotExist.
func (e *NotFoundError) Is(target error) bool { return target == fs.ErrNotExist }
