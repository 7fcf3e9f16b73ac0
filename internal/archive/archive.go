// Package archive is a client of Debian's and Ubuntu's package archives: it
// finds a mirror, verifies a suite's signed index, reads the package lists,
// computes which packages a bootstrap or a toolchain needs, and brings them
// into the store. All it trusts is the keys that it carries. It must not know
// what the packages are used for, nor of containers.
package archive

import (
	"context"
	"errors"
	"time"

	"github.com/kimg/kimg/internal/fetch"
	"github.com/kimg/kimg/internal/store"
	"github.com/kimg/kimg/internal/units"
)

// Arch is the architecture of everything kimg fetches.
const Arch = "amd64"

// Client reads one archive. Store, HTTP and Mirror are needed.
type Client struct {
	Store  *store.Store
	HTTP   *fetch.Client
	Mirror Mirror

	Keyring      *Keyring         // nil: the suite's own
	Snapshot     string           // base of the snapshot service; "": the family's own
	Cache        string           // directory of parsed package lists; "": none is kept
	Now          func() time.Time // nil: time.Now
	AllowExpired bool             // take an InRelease that is past its Valid-Until
	Warn         func(string)     // told what was let pass; nil: nobody
}

// Mirror is where an archive is had from.
type Mirror struct {
	URL          string // without a slash at its end
	Proxy        string // what apt's configuration says for it; "": the environment's
	AllowExpired bool   // apt's configuration says Acquire::Check-Valid-Until false
	From         string // who named it, for people: "--mirror", "KIMG_MIRROR", a file of apt's, "the snapshot service"
}

// ResolveMirror finds the mirror of a family: the flag, the environment
// (KIMG_MIRROR for Debian, KIMG_UBUNTU_MIRROR for Ubuntu), the host's apt
// configuration below root (most often "/"), else the family's snapshot service
// at the time at, or now where at is zero.
func ResolveMirror(root string, family Family, flag string, at time.Time) (Mirror, error) {
	return Mirror{}, errors.ErrUnsupported
}

// HostMirror finds the mirror of a family that the apt configuration below root
// uses for a plain distribution archive.
func HostMirror(root string, family Family) (Mirror, bool) { return Mirror{}, false }

// Release is a verified InRelease.
type Release struct {
	Suite      Suite
	Date       time.Time
	ValidUntil time.Time    // zero: it does not say
	InRelease  units.Digest // of the whole signed file, which is in the store
	SignedBy   []string     // primary fingerprints of the keys whose signatures are good
	files      map[string]file
}

type file struct {
	size   int64
	sha256 units.Digest
}

// Release fetches and verifies the suite's InRelease.
func (c *Client) Release(ctx context.Context, s Suite) (*Release, error) {
	return nil, errors.ErrUnsupported
}

// ReleaseAt is the release that a lock names: the InRelease with that digest,
// from the store or from the snapshot service, verified as of the time at.
func (c *Client) ReleaseAt(ctx context.Context, s Suite, inRelease units.Digest, at time.Time) (*Release, error) {
	return nil, errors.ErrUnsupported
}

// Index fetches and reads the package lists of the components (nil: the
// suite's own), verified by rel.
func (c *Client) Index(ctx context.Context, rel *Release, components []string) (*Index, error) {
	return nil, errors.ErrUnsupported
}

// Fetch brings packages into the store, from the mirror or else, as of the time
// at, from the snapshot service. progress may be nil; it is called from many
// goroutines. Where neither has some, the error is a *MissingError.
func (c *Client) Fetch(ctx context.Context, s Suite, packages []Locked, at time.Time, progress func(delta int64)) error {
	return errors.ErrUnsupported
}

// MissingError tells of locked packages that can no longer be had.
type MissingError struct {
	Packages []Locked
	Tried    []string // base URLs
}

func (e *MissingError) Error() string { return "packages missing" }
