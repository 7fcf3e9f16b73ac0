// Package suite is the table of the releases of Debian and Ubuntu that kimg knows: who signs each, how debootstrap
// makes it, what its tools can do and which compilers it has. A new suite is a row of suites; see CONTRIBUTING. The
// package holds facts: what is done with them is in the packages that read them.
package suite

import (
	"embed"
	"fmt"
	"slices"
	"strings"

	"github.com/kimg/kimg/internal/editdist"
	"github.com/kimg/kimg/internal/pgp"
)

// Suite is a release of a distribution, by its codename. The zero value is no suite.
type Suite struct {
	Name   string   // the codename: "trixie"
	Family *Family  // who makes it
	Arches []string // the architectures in its archive, of those that kimg knows
	Kernel string   // of its linux-source, for advice: "6.12"; empty: it moves, or has another name

	signers   []string   // fingerprints of the primary keys that may sign its InRelease
	Bootstrap Bootstrap  // what debootstrap does for it
	Ext4      []string   // features that its own mke2fs turns on and that came after those of all suites
	Toolchain *Toolchain // what it compiles kernels with; nil: it is a guest only
}

// Bootstrap is what debootstrap does for a suite and not for all of its family.
type Bootstrap struct {
	Options []string // of its command line
	Exclude []string // dependencies that it does not follow
	Also    []string // packages that it adds to the required ones
}

// Toolchain is what a suite's packages compile kernels with. Each compiler is in one image: the main ones in that
// of the suite's name, each of the others in one of its own, so that only those who ask for it download it.
type Toolchain struct {
	Compilers []string // of the main image, the suite's default first
	Others    []string // "gcc-13": in the image trixie-gcc-13
	Base      []string // decide alternatives that the essential packages leave open
	Build     []string // what every image has besides, under the suite's own names
	Deb       []string // what make bindeb-pkg calls: in the main image's sibling trixie-deb
	Cross     []string // architectures that the default compiler is there for, too: in trixie-arm64 and the like
	Engines   []string // other architectures of engines whose compilers are, by the archive, those of amd64's

	Binutils, Glibc int // their minor versions; both are at 2
}

// Image is an image of a suite's toolchain.
type Image struct {
	Name      string   // "trixie", "trixie-gcc-13", "trixie-deb"
	Compilers []string // packages, the default first
	Packages  []string // what it has besides, of the suite's facts
	Deb       bool     // it packs kernels for dpkg, too
	Arch      string   // of the kernels that it compiles, where that is not its own; as package arch names it
}

// Compilers are the packages of all compilers, the suite's default first.
func (s Suite) Compilers() []string {
	if s.Toolchain == nil {
		return nil
	}
	return slices.Concat(s.Toolchain.Compilers, s.Toolchain.Others)
}

// Images are the images of the suite's toolchain, the main one first. A suite without a toolchain has none.
func (s Suite) Images() []Image {
	t := s.Toolchain
	if t == nil {
		return nil
	}
	all := []Image{{Name: s.Name, Compilers: t.Compilers, Packages: t.Build}}
	for _, cc := range t.Others {
		all = append(all, Image{Name: s.Name + "-" + cc, Compilers: []string{cc}, Packages: t.Build})
	}
	all = append(all, Image{Name: s.Name + "-deb", Compilers: t.Compilers, Deb: true,
		Packages: slices.Concat(t.Build, t.Deb)})
	for _, arch := range t.Cross {
		all = append(all, Image{Name: s.Name + "-" + arch, Compilers: t.Compilers[:1], Packages: t.Build, Arch: arch})
	}
	return all
}

// All returns every suite that kimg knows, oldest first within each family.
func All() []Suite { return slices.Clone(suites) }

// Names are the names of all suites.
func Names() []string {
	var all []string
	for _, s := range suites {
		all = append(all, s.Name)
	}
	return all
}

// Parse reads a suite's codename.
func Parse(name string) (Suite, error) {
	if i := slices.IndexFunc(suites, func(s Suite) bool { return s.Name == name }); i >= 0 {
		return suites[i], nil
	}
	if near := editdist.Near(name, Names()); near != "" {
		return Suite{}, fmt.Errorf("unknown suite %q: did you mean %s?", name, near)
	}
	return Suite{}, fmt.Errorf("unknown suite %q: want one of %s", name, strings.Join(Names(), ", "))
}

// Has reports whether the suite's archive has an architecture.
func (s Suite) Has(arch string) bool { return slices.Contains(s.Arches, arch) }

// String is the codename.
func (s Suite) String() string { return s.Name }

// MarshalText writes the codename.
func (s Suite) MarshalText() ([]byte, error) { return []byte(s.Name), nil }

// UnmarshalText reads what Parse reads; empty text is the zero value.
func (s *Suite) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*s = Suite{}
		return nil
	}
	v, err := Parse(string(b))
	if err == nil {
		*s = v
	}
	return err
}

// keyFiles are the keys of each family, armored, with their own signatures and no others. They were written with
//
//	gpg --export-options export-minimal --armor --export FINGERPRINT...
//
//go:embed keys/*.asc
var keyFiles embed.FS

// Keyring returns the keys that may sign the suite's InRelease.
func (s Suite) Keyring() (*pgp.Keyring, error) {
	f, err := keyFiles.Open("keys/" + s.Family.Name + ".asc")
	if err != nil {
		return nil, fmt.Errorf("read keys of %s: %w", s.Family, err)
	}
	defer f.Close()
	k, err := pgp.ReadKeyring(f)
	if err != nil {
		return nil, fmt.Errorf("read keys of %s: %w", s.Family, err)
	}
	return k.Only(s.signers...), nil
}
