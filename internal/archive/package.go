package archive

import (
	"errors"

	"github.com/kimg/kimg/internal/units"
)

// Package is one stanza of a package list. Relationship fields are as the
// archive spells them.
type Package struct {
	Name, Version, Arch string
	Source              string // as spelled: "glibc (2.41-1)"; "": the same as Name
	Filename            string // relative to the archive's base
	Size                int64  // bytes
	InstalledSize       int64  // KiB, as its maintainer's build estimated it; 0: not said
	SHA256              units.Digest
	Priority            string
	Essential           bool
	PreDepends, Depends string
	Provides            string
	Conflicts, Breaks   string
}

// Locked names one package file exactly, for a lock.
type Locked struct {
	Name     string       `json:"name" yaml:"name"`
	Version  string       `json:"version" yaml:"version"`
	Arch     string       `json:"arch" yaml:"arch"`
	Filename string       `json:"filename" yaml:"filename"`
	Size     int64        `json:"size" yaml:"size"`
	SHA256   units.Digest `json:"sha256" yaml:"sha256"`
}

// Locked is what a lock keeps of the package.
func (p Package) Locked() Locked {
	return Locked{Name: p.Name, Version: p.Version, Arch: p.Arch, Filename: p.Filename, Size: p.Size, SHA256: p.SHA256}
}

// Index is the package lists of one release.
type Index struct{}

// Lookup returns the newest version of the package.
func (x *Index) Lookup(name string) (Package, bool) { return Package{}, false }

// Variant is a set of packages that debootstrap starts from.
type Variant string

// The variants, by debootstrap's meaning.
const (
	Minbase  Variant = "minbase"  // required packages and apt
	Standard Variant = "standard" // required and important packages: debootstrap's default
)

// ClosureSpec says which bootstrap is wanted.
type ClosureSpec struct {
	Suite   Suite
	Variant Variant
	Include []string // debootstrap --include
}

// Bootstrap is what debootstrap installs, in its order: Required is unpacked and
// configured first. No package is in both.
type Bootstrap struct{ Required, Base []Package }

// Closure computes the packages that debootstrap --print-debs names.
func (x *Index) Closure(spec ClosureSpec) (Bootstrap, error) {
	return Bootstrap{}, errors.ErrUnsupported
}

// Install computes what apt-get install --no-install-recommends would install
// for names ("gcc-12" or "gcc-12=12.2.0-14") where have (a set of package names)
// is installed already: a set that dpkg can configure, sorted by name.
func (x *Index) Install(names []string, have map[string]bool) ([]Package, error) {
	return nil, errors.ErrUnsupported
}
