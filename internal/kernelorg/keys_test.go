package kernelorg

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"

	"github.com/kimg/kimg/internal/pgp"
	"github.com/kimg/kimg/internal/units"
)

// TestShippedKeysAreExactlyThose is what makes the fingerprints in the source
// worth reading.
func TestShippedKeysAreExactlyThose(t *testing.T) {
	for name, fingerprint := range map[string]string{"autosigner": autosigner, "greg": greg, "linus": linus} {
		b, err := keyFiles.ReadFile("keys/" + name + ".asc")
		if err != nil {
			t.Fatal(err)
		}
		k, err := pgp.ReadKeyring(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if got := k.Fingerprints(); !slices.Equal(got, []string{fingerprint}) {
			t.Errorf("%s.asc holds %v, want %s", name, got, fingerprint)
		}
		for _, e := range k.Keys {
			if sig, _ := e.PrimarySelfSignature(); e.PrivateKey != nil || sig == nil ||
				e.PrimaryKey.KeyExpired(sig, time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)) {
				t.Errorf("%s.asc: a private key, or none that is valid", name)
			}
		}
	}
	k, err := ShippedKeys()
	if err != nil || !slices.Equal(k.Sums.Fingerprints(), []string{autosigner}) ||
		!slices.Equal(k.Tar.Fingerprints(), []string{greg, linus}) {
		t.Errorf("%v may sign lists, %v tars, %v", k.Sums.Fingerprints(), k.Tar.Fingerprints(), err)
	}
}

// TestListOfKernelOrg holds the shipped key against what kernel.org signed with
// it: its list for v4.x, as it was on 1 February 2017.
func TestListOfKernelOrg(t *testing.T) {
	b, err := os.ReadFile("testdata/sha256sums-v4.x-2017.asc")
	if err != nil {
		t.Fatal(err)
	}
	k, err := ShippedKeys()
	if err != nil {
		t.Fatal(err)
	}
	text, by, err := pgp.OpenClear(b, k.Sums, time.Now())
	if err != nil || !slices.Equal(by, []string{autosigner}) {
		t.Fatalf("signed by %v, %v", by, err)
	}
	list, err := parseSums(text)
	if err != nil || list["linux-4.0.1.tar.xz"] != "ffb0ad77e954be73b40d06d6b062464e8c29a7cbcbfcb8d52cbbd415ae11f2bd" {
		t.Errorf("linux-4.0.1.tar.xz is %s, %v", list["linux-4.0.1.tar.xz"], err)
	}
	if best, ok := list.newest(func(v units.KernelVersion) bool { return v.Minor == 4 }); !ok || best.Patch < 40 {
		t.Errorf("the newest 4.4.y is %s", best)
	}
	if _, _, err := pgp.OpenClear(bytes.Replace(b, []byte("linux-4.0.1."), []byte("linux-4.0.2."), 1), k.Sums,
		time.Now()); err == nil {
		t.Error("it is accepted when it was changed")
	}
}

func TestAddKeys(t *testing.T) {
	stranger := testKeys().stranger
	var bin, asc bytes.Buffer
	if err := stranger.Serialize(&bin); err != nil {
		t.Fatal(err)
	}
	w, err := armor.Encode(&asc, "PGP PUBLIC KEY BLOCK", nil)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(bin.Bytes())
	w.Close()
	for name, b := range map[string][]byte{"armored": asc.Bytes(), "binary": bin.Bytes()} {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		was, err := ShippedKeys()
		if err != nil {
			t.Fatal(err)
		}
		k, err := was.Add(file)
		if err != nil || len(k.Sums.Keys) != 2 || len(k.Tar.Keys) != 3 || len(was.Sums.Keys) != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, b := range map[string]string{"empty": "", "page": "<html>", "cut": asc.String()[:90]} {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := (Keys{Sums: ring(), Tar: ring()}).Add(file); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTagOfGreg holds the shipped key of stable releases against something that
// it really signed: the tag v017 of usbutils, as git keeps it.
func TestTagOfGreg(t *testing.T) {
	tag, err := os.ReadFile("testdata/usbutils-v017.tag")
	if err != nil {
		t.Fatal(err)
	}
	sig, err := os.ReadFile("testdata/usbutils-v017.tag.sign")
	if err != nil {
		t.Fatal(err)
	}
	k, err := ShippedKeys()
	if err != nil {
		t.Fatal(err)
	}
	by, err := pgp.VerifyDetached(bytes.NewReader(tag), sig, k.Tar, time.Now())
	if err != nil || !slices.Equal(by, []string{greg}) {
		t.Errorf("signed by %v, %v", by, err)
	}
	if _, err := pgp.VerifyDetached(bytes.NewReader(changed(tag)), sig, k.Tar, time.Now()); err == nil {
		t.Error("it is accepted when it was changed")
	}
}
