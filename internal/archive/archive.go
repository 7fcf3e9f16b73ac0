// Package archive is a client of Debian's and Ubuntu's package archives: it finds a mirror, verifies a suite's
// signed index, reads the package lists, computes which packages a bootstrap or a toolchain needs, and downloads
// them into the store. It trusts nothing but the keys of package suite. What the packages are used for is up to its
// callers.
package archive

import (
	"time"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/fetch"
	"github.com/kimg/kimg/internal/pgp"
	"github.com/kimg/kimg/internal/store"
)

// Client reads one archive. Store, HTTP, Mirror and Arch are needed.
type Client struct {
	Store  *store.Store
	HTTP   *fetch.Client
	Mirror Mirror
	Arch   arch.Arch // whose packages are listed

	Keyring      *pgp.Keyring     // nil: the suite's own
	Snapshot     string           // base of the snapshot service, see SnapshotBase; "": the family's own
	Cache        string           // directory of parsed package lists; "": none is kept
	Now          func() time.Time // nil: time.Now
	AllowExpired bool             // accept an InRelease that is past its Valid-Until
	Warn         func(string)     // reports what was accepted nevertheless; may be nil
}
