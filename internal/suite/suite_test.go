package archive

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
	want := map[Family][]string{
		Debian: {debian11Automatic, debian11Stable, debian12Automatic, debian12Stable, debian13Automatic, debian13Stable},
		Ubuntu: {ubuntu2012, ubuntu2018},
	}
	for family, fingerprints := range want {
		f, err := keyFiles.Open("keys/" + string(family) + ".asc")
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
	for _, s := range Suites() {
		k, err := s.Keyring()
		if err != nil {
			t.Fatal(err)
		}
		got := k.Fingerprints()
		if len(got) != len(s.keys) {
			t.Errorf("%s may be signed by %v, of which its keyring has %v", s, s.keys, got)
		}
		for _, e := range k.Keys {
			if e.PrivateKey != nil {
				t.Errorf("%s: a private key", s)
			}
			if sig, _ := e.PrimarySelfSignature(); sig == nil || e.PrimaryKey.KeyExpired(sig, time.Date(2028, 1, 1, 0, 0, 0, 0, time.UTC)) {
				t.Errorf("%s: the key %s has no valid self-signature", s, e.PrimaryKey.KeyIdString())
			}
		}
	}
}

func TestParseSuite(t *testing.T) {
	s, err := ParseSuite("noble")
	if err != nil || s.Family != Ubuntu || !slices.Equal(s.Components, []string{"main", "universe"}) {
		t.Errorf("noble: %+v, %v", s, err)
	}
	for _, bad := range []string{"", "stable", "Trixie", "../sid", "buster"} {
		if _, err := ParseSuite(bad); err == nil || !strings.Contains(err.Error(), "bookworm") {
			t.Errorf("ParseSuite(%q): %v, want an error that names the known ones", bad, err)
		}
	}
	var back Suite
	text, _ := s.MarshalText()
	if err := back.UnmarshalText(text); err != nil || back.Name != "noble" {
		t.Errorf("round trip: %+v, %v", back, err)
	}
}
