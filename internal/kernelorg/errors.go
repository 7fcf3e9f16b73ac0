package kernelorg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/kimg/kimg/internal/fetch"
)

// UntrustedError reports a file that was refused: no key that may sign it has, or it
// is not what was signed. Nothing of it was kept.
type UntrustedError struct {
	URL  string
	Why  string
	hint string
}

func (e *UntrustedError) Error() string { return fmt.Sprintf("%s is not trusted: %s", e.URL, e.Why) }

func (e *UntrustedError) Hint() string { return e.hint }

// The hints of an UntrustedError.
const (
	hintWrong = "try again, or use another mirror with --kernel-mirror, and check that this machine's clock is " +
		"right; --allow-unsigned does not accept wrong signatures either"
	hintUnknown = "add the signer's key with --kernel-keyring FILE, use another mirror with --kernel-mirror, " +
		"or accept it as it is with --allow-unsigned, which the manifest records"
	hintNoMirror = "check that --kernel-mirror names a mirror of " + DefaultBase + "/pub/linux/kernel and that no " +
		"proxy answers in its place; for a mirror without signatures there is --allow-unsigned, " +
		"which the manifest records"
)

// NotFoundError reports that a server does not have a file. It is fs.ErrNotExist.
type NotFoundError struct {
	URL  string
	Why  string
	hint string
}

func (e *NotFoundError) Error() string { return fmt.Sprintf("%s: %s", e.URL, e.Why) }

func (e *NotFoundError) Hint() string { return e.hint }

// DownError reports that a server could not be reached, or gave no usable answer.
type DownError struct{ Err error }

func (e *DownError) Error() string { return e.Err.Error() }

func (e *DownError) Unwrap() error { return e.Err }

func (e *DownError) Hint() string {
	return "check the network, name a mirror with --kernel-mirror or KIMG_KERNEL_MIRROR, " +
		"or give --kernel a tarball that is on this machine"
}

// down makes a DownError of a download's error that explain gave no other type.
func down(ctx context.Context, err error) error {
	var untrusted *UntrustedError
	var missing *NotFoundError
	var get *fetch.GetError
	var file *fetch.Error
	switch {
	case ctx.Err() != nil, errors.As(err, &untrusted), errors.As(err, &missing):
		return err
	case errors.As(err, &get), errors.As(err, &file):
		return &DownError{err}
	}
	return err
}

// Is makes it fs.ErrNotExist.
func (e *NotFoundError) Is(target error) bool { return target == fs.ErrNotExist }
