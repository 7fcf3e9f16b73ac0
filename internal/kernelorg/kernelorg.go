// Package kernelorg is a client of kernel.org's layout of kernel sources, and of its mirrors: it downloads a
// version's tarball into the store and says who signed it. It takes tarballs by plain URLs, too.
package kernelorg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/kimg/kimg/internal/fetch"
	"github.com/kimg/kimg/internal/store"
	"github.com/kimg/kimg/internal/units"
)

// DefaultBase is where kernel.org itself serves its sources.
const DefaultBase = "https://cdn.kernel.org"

// Client fetches kernel sources. Store, HTTP and Keys are needed.
type Client struct {
	Store *store.Store
	HTTP  *fetch.Client
	Keys  Keys

	// Base is the mirror; "": DefaultBase. It is the URL that /pub/linux/kernel is under (https://cdn.kernel.org),
	// or that directory's own URL, known by its last name, "kernel" (https://mirror.example/pub/linux/kernel).
	Base string

	VerifyTar     bool             // also check the detached signature of the uncompressed tar
	AllowUnsigned bool             // accept what no known key has signed; a wrong signature is never accepted
	Now           func() time.Time // nil: time.Now

	// Progress gets the bytes of a tarball that arrived, negative when they turned out to be wrong. It may be nil.
	Progress func(delta int64)
}

// Verified says which file was accepted, and why. Its form is that of manifests.
type Verified struct {
	URL    string       `json:"url" yaml:"url"`
	SHA256 units.Digest `json:"sha256" yaml:"sha256"` // of the tarball, as it is in the store

	// Primary fingerprints of who signed the list with its digest, or the file.
	SignedBy []string `json:"signed_by,omitempty" yaml:"signed_by,omitempty"`
	// Of who signed the uncompressed tar, where that was checked.
	TarSignedBy []string `json:"tar_signed_by,omitempty" yaml:"tar_signed_by,omitempty"`

	Pinned   bool   `json:"pinned,omitempty" yaml:"pinned,omitempty"`     // the caller named the digest
	Unsigned bool   `json:"unsigned,omitempty" yaml:"unsigned,omitempty"` // AllowUnsigned accepted something
	Why      string `json:"why,omitempty" yaml:"why,omitempty"`           // what it accepted
}

// passed records what AllowUnsigned accepted.
func (v *Verified) passed(why string) {
	if v.Unsigned = true; v.Why != "" {
		v.Why += "; "
	}
	v.Why += why
}

// Bounds of downloads: the largest tarball of today is some 150 MB, 1.6 GB unpacked; the largest list 400 kB.
const (
	maxTarball   = 1 << 30
	maxTar       = 8 << 30
	maxSums      = 8 << 20
	maxSignature = 1 << 20 // a page in the place of a signature must fit, to be recognised
)

func (c *Client) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

// UntrustedError reports a file that was refused, and not kept: no key that may sign it has, or it was changed.
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
