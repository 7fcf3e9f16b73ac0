// Package kernelorg is a client of kernel.org's layout of kernel sources, and of
// its mirrors: it brings a version's tarball into the store and says who vouches
// for it. It takes tarballs by plain URLs, too. It must not know what is in a
// tarball, nor what becomes of it.
package kernelorg

import (
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

	// Base is the mirror; "": DefaultBase. It is the URL that /pub/linux/kernel
	// is under (https://cdn.kernel.org), or that directory's own URL, known by its
	// last name, "kernel" (https://mirror.example/pub/linux/kernel).
	Base string

	VerifyTar     bool              // also check the detached signature of the uncompressed tar
	AllowUnsigned bool              // take what no known key has signed; what is wrongly signed is never taken
	Now           func() time.Time  // nil: time.Now
	Progress      func(delta int64) // may be nil; bytes of a tarball that arrived, negative when they turned out to be wrong
}

// Verified says which file was taken, and why. Its form is that of manifests.
type Verified struct {
	URL         string       `json:"url" yaml:"url"`
	SHA256      units.Digest `json:"sha256" yaml:"sha256"`                                   // of the tarball, as it is in the store
	SignedBy    []string     `json:"signed_by,omitempty" yaml:"signed_by,omitempty"`         // primary fingerprints of who signed the list with its digest, or the file
	TarSignedBy []string     `json:"tar_signed_by,omitempty" yaml:"tar_signed_by,omitempty"` // of who signed the uncompressed tar, where that was checked
	Pinned      bool         `json:"pinned,omitempty" yaml:"pinned,omitempty"`               // the caller named the digest
	Unsigned    bool         `json:"unsigned,omitempty" yaml:"unsigned,omitempty"`           // AllowUnsigned let something pass
	Why         string       `json:"why,omitempty" yaml:"why,omitempty"`                     // what it let pass
}

// passed records what AllowUnsigned let pass.
func (v *Verified) passed(why string) {
	if v.Unsigned = true; v.Why != "" {
		v.Why += "; "
	}
	v.Why += why
}

// Bounds of what is taken. The lists of kernel.org have no sizes. Its largest
// tarball of today is some 150 MB, 1.6 GB unpacked; the largest list 400 kB.
const (
	maxTarball   = 1 << 30
	maxTar       = 8 << 30
	maxSums      = 8 << 20
	maxSignature = 1 << 20 // a page in the place of a signature must fit, to be told apart
)

func (c *Client) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}
