// Package archive is a client of Debian's and Ubuntu's package archives: it
// finds a mirror, verifies a suite's signed index, reads the package lists,
// computes which packages a bootstrap or a toolchain needs, and brings them
// into the store. All it trusts is the keys that it carries. It must not know
// what the packages are used for, nor of containers.
package archive

import (
	"time"

	"github.com/kimg/kimg/internal/fetch"
	"github.com/kimg/kimg/internal/pgp"
	"github.com/kimg/kimg/internal/store"
)

// Arch is the architecture of everything kimg fetches.
const Arch = "amd64"

// Client reads one archive. Store, HTTP and Mirror are needed.
type Client struct {
	Store  *store.Store
	HTTP   *fetch.Client
	Mirror Mirror

	Keyring      *pgp.Keyring     // nil: the suite's own
	Snapshot     string           // base of the snapshot service, see SnapshotBase; "": the family's own
	Cache        string           // directory of parsed package lists; "": none is kept
	Now          func() time.Time // nil: time.Now
	AllowExpired bool             // take an InRelease that is past its Valid-Until
	Warn         func(string)     // told what was let pass; nil: nobody
}
