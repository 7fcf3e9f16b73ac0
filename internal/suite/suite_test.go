package suite

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/internal/pgp"
)

// TestEmbeddedKeysAreExactlyThose is what makes the fingerprints in the source
// worth reading: no other key is in the files, and every suite finds its own.
func TestEmbeddedKeysAreExactlyThose(t *testing.T) {
	want := map[*Family][]string{
		Debian: {debian11Automatic, debian11Stable, debian12Automatic, debian12Stable, debian13Automatic,
			debian13Stable},
		Ubuntu: {ubuntu2012, ubuntu2018},
	}
	for family, fingerprints := range want {
		f, err := keyFiles.Open("keys/" + family.Name + ".asc")
		if err != nil {
			t.Fatal(err)
		}
		k, err := pgp.ReadKeyring(f)
		if err != nil {
			t.Fatal(err)
		}
		got := k.Fingerprints()
		slices.Sort(got)
		slices.Sort(fingerprints)
		if !slices.Equal(got, fingerprints) {
			t.Errorf("%s has the keys %v, want %v", family, got, fingerprints)
		}
	}
	for _, s := range All() {
		k, err := s.Keyring()
		if err != nil {
			t.Fatal(err)
		}
		got := k.Fingerprints()
		if len(got) != len(s.signers) {
			t.Errorf("%s may be signed by %v, of which its keyring has %v", s, s.signers, got)
		}
		for _, e := range k.Keys {
			if e.PrivateKey != nil {
				t.Errorf("%s: a private key", s)
			}
			if sig, _ := e.PrimarySelfSignature(); sig == nil ||
				e.PrimaryKey.KeyExpired(sig, time.Date(2028, 1, 1, 0, 0, 0, 0, time.UTC)) {
				t.Errorf("%s: the key %s has no valid self-signature", s, e.PrimaryKey.KeyIdString())
			}
		}
	}
}

func TestParse(t *testing.T) {
	s, err := Parse("noble")
	if err != nil || s.Family != Ubuntu || !slices.Equal(s.Family.Components, []string{"main", "universe"}) {
		t.Errorf("noble: %+v, %v", s, err)
	}
	for _, bad := range []string{"", "stable", "../sid", "buster"} {
		if _, err := Parse(bad); err == nil || !strings.Contains(err.Error(), "bookworm") {
			t.Errorf("Parse(%q): %v, want an error that names the known ones", bad, err)
		}
	}
	if _, err := Parse("Trixie"); err == nil || err.Error() != `unknown suite "Trixie": did you mean trixie?` {
		t.Errorf("Trixie: %v", err)
	}
	var back Suite
	text, _ := s.MarshalText()
	if err := back.UnmarshalText(text); err != nil || back.Name != "noble" {
		t.Errorf("round trip: %+v, %v", back, err)
	}
}

// A row that lacks a fact would be found out by a boot that fails.
func TestRowsAreWhole(t *testing.T) {
	images := map[string]bool{}
	for _, s := range suites {
		if s.Name == "" || s.Family == nil || len(s.signers) == 0 {
			t.Errorf("%+v lacks a name, a family or keys", s)
		}
		if got, err := Parse(s.Name); err != nil || got.Family != s.Family {
			t.Errorf("%s is read as %+v, %v", s.Name, got, err)
		}
		for _, image := range s.Images() {
			if images[image.Name] || len(image.Compilers) == 0 || slices.Contains(image.Compilers, "") {
				t.Errorf("image %+v is there twice, or has no compiler", image)
			}
			images[image.Name] = true
		}
		if c := s.Toolchain; c != nil && (c.Binutils == 0 || c.Glibc == 0 || len(c.Base) == 0 || len(c.Deb) == 0) {
			t.Errorf("the toolchain of %s lacks a fact: %+v", s, *c)
		}
	}
	for _, f := range Families {
		for _, fact := range []string{f.Name, f.Title, f.Script, f.MirrorEnv, f.Snapshot, f.SnapshotEnv} {
			if fact == "" {
				t.Errorf("%s lacks a fact: %+v", f, *f)
			}
		}
		if (f.Ports == "") != (f.PortsEnv == "") {
			t.Errorf("%s has a place for ports or a mirror of it, and not both: %+v", f, *f)
		}
		if len(f.Components) == 0 || !strings.HasSuffix(f.Snapshot, "/") {
			t.Errorf("%s has no components, or its snapshots no slash: %+v", f, *f)
		}
	}
}
