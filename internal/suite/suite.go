package archive

import (
	"fmt"
	"slices"
	"strings"
)

// Family is who makes a distribution: it decides the archive's layout, the
// snapshot service and the keys.
type Family string

// The families.
const (
	Debian Family = "debian"
	Ubuntu Family = "ubuntu"
)

// Suite is one release of a distribution, by its codename. The zero value is
// no suite; ParseSuite gives one that was checked.
type Suite struct {
	Name       string   // the codename: "trixie"
	Family     Family   // who makes it
	Components []string // what a plain installation draws from, in debootstrap's order
	keys       []string // primary fingerprints that may sign its InRelease
}

// The keys that sign the archives, by primary fingerprint. Debian's are from
// the package debian-archive-keyring 2025.1, Ubuntu's from Debian's package
// ubuntu-keyring 2023.11.28.1-0.2; both were fetched from trixie and checked
// by its signed indices. keys/*.asc hold exactly these; a test proves it.
const (
	debian11Automatic = "1F89983E0081FDE018F3CC9673A4F27B8DD47936" // Debian Archive Automatic Signing Key (11/bullseye), until 2029
	debian11Stable    = "A4285295FC7B1A81600062A9605C66F00D6C9793" // Debian Stable Release Key (11/bullseye), until 2029
	debian12Automatic = "B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8" // Debian Archive Automatic Signing Key (12/bookworm), until 2031
	debian12Stable    = "4D64FEC119C2029067D6E791F8D2585B8783D481" // Debian Stable Release Key (12/bookworm), until 2031
	debian13Automatic = "04B54C3CDCA79751B16BC6B5225629DF75B188BD" // Debian Archive Automatic Signing Key (13/trixie), until 2035
	debian13Stable    = "41587F7DB8C774BCCF131416762F67A0B2C39DE4" // Debian Stable Release Key (13/trixie), until 2033
	ubuntu2012        = "790BC7277767219C42C86F933B4FE6ACC0B21F32" // Ubuntu Archive Automatic Signing Key (2012)
	ubuntu2018        = "F6ECB3762474EDA9D21B7022871920D1991BC93C" // Ubuntu Archive Automatic Signing Key (2018)
)

var (
	debianComponents = []string{"main"}
	ubuntuComponents = []string{"main", "universe"}
)

// suites is every suite kimg knows. A release is signed by the automatic keys
// of the releases around its last update, and by its own stable key.
var suites = []Suite{
	{"bullseye", Debian, debianComponents, []string{debian11Automatic, debian11Stable, debian12Automatic}},
	{"bookworm", Debian, debianComponents, []string{debian11Automatic, debian12Automatic, debian12Stable, debian13Automatic}},
	{"trixie", Debian, debianComponents, []string{debian12Automatic, debian13Automatic, debian13Stable}},
	{"sid", Debian, debianComponents, []string{debian11Automatic, debian12Automatic, debian13Automatic}},
	{"bionic", Ubuntu, ubuntuComponents, []string{ubuntu2012, ubuntu2018}},
	{"focal", Ubuntu, ubuntuComponents, []string{ubuntu2012, ubuntu2018}},
	{"jammy", Ubuntu, ubuntuComponents, []string{ubuntu2012, ubuntu2018}},
	{"noble", Ubuntu, ubuntuComponents, []string{ubuntu2018}},
}

// Suites returns every suite kimg knows, oldest first within each family.
func Suites() []Suite { return slices.Clone(suites) }

// ParseSuite reads a suite's codename.
func ParseSuite(s string) (Suite, error) {
	var known []string
	for _, suite := range suites {
		if suite.Name == s {
			return suite, nil
		}
		known = append(known, suite.Name)
	}
	return Suite{}, fmt.Errorf("unknown suite %q: kimg knows %s", s, strings.Join(known, ", "))
}

// String is the codename.
func (s Suite) String() string { return s.Name }

// MarshalText writes the codename.
func (s Suite) MarshalText() ([]byte, error) { return []byte(s.Name), nil }

// UnmarshalText reads what ParseSuite reads; empty text is the zero value.
func (s *Suite) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*s = Suite{}
		return nil
	}
	v, err := ParseSuite(string(b))
	if err == nil {
		*s = v
	}
	return err
}
