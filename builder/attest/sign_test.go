package attest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	"golang.org/x/crypto/ssh"
)

const pass = "open sesame"

func noPassphrase() ([]byte, error) { return nil, errors.New("it was asked for a passphrase") }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// signers are a key of each kind.
func signers() map[string]crypto.Signer {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	return map[string]crypto.Signer{
		"ed25519":    must(ed, err),
		"ecdsa-p256": must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		"ecdsa-p384": must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
		"rsa":        must(rsa.GenerateKey(rand.Reader, 2048)),
	}
}

func pkcs8(k crypto.Signer) *pem.Block {
	return &pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(k))}
}

func public(k crypto.Signer) *pem.Block {
	return &pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(k.Public()))}
}

func write(t *testing.T, text []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func newTestKey(t *testing.T, k crypto.Signer) (*Key, *PublicKey) {
	t.Helper()
	key, err := ReadKey(write(t, pem.EncodeToMemory(pkcs8(k))), noPassphrase, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ReadPublicKey(write(t, pem.EncodeToMemory(public(k))))
	if err != nil {
		t.Fatal(err)
	}
	return key, pub
}

func TestKeyForms(t *testing.T) {
	for kind, k := range signers() {
		_, want := newTestKey(t, k)
		line := ssh.MarshalAuthorizedKey(must(ssh.NewPublicKey(k.Public())))
		if pub, err := ReadPublicKey(write(t, line)); err != nil || pub.ID != want.ID || pub.Type != kind {
			t.Errorf("%s: of ssh-keygen's line %+v (%v)", kind, pub, err)
		}
		forms := map[string]*pem.Block{"PKCS #8": pkcs8(k), "OpenSSH": must(ssh.MarshalPrivateKey(k, "me"))}
		switch k := k.(type) {
		case ed25519.PrivateKey: // what is around a key does not know of which kind it is, and is slow on purpose
			forms["OpenSSH, encrypted"] = must(ssh.MarshalPrivateKeyWithPassphrase(k, "me", []byte(pass)))
			forms["cosign"] = &pem.Block{Type: "ENCRYPTED SIGSTORE PRIVATE KEY",
				Bytes: must(encrypted.Encrypt(pkcs8(k).Bytes, []byte(pass)))}
		case *rsa.PrivateKey:
			forms["PKCS #1"] = &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)}
		case *ecdsa.PrivateKey:
			forms["SEC 1"] = &pem.Block{Type: "EC PRIVATE KEY", Bytes: must(x509.MarshalECPrivateKey(k))}
		}
		for form, block := range forms {
			locked := form == "cosign" || strings.Contains(form, "encrypted")
			file := write(t, pem.EncodeToMemory(block))
			asked := 0
			ask := func(answer string) Passphrase {
				return func() ([]byte, error) { asked++; return []byte(answer), nil }
			}
			got, err := ReadKey(file, ask(pass), func(text string) { t.Error(text) })
			if err != nil || got.ID != want.ID || got.Type != kind || asked != map[bool]int{true: 1}[locked] {
				t.Errorf("%s in %s: %+v (%v), asked %d times", kind, form, got, err, asked)
			}
			if !locked {
				continue
			}
			if _, err := ReadKey(file, ask("wrong"), nil); !errors.Is(err, errPassphrase) {
				t.Errorf("%s in %s with another passphrase: %v", kind, form, err)
			}
			if _, err := ReadKey(file, noPassphrase, nil); err == nil ||
				!strings.Contains(err.Error(), "it was asked") {
				t.Errorf("%s in %s without a passphrase: %v", kind, form, err)
			}
		}
	}
}

// What openssl 3.0 wrote: pkcs8 -topk8 -v2 aes-256-cbc, -v2 aes-128-cbc -v2prf
// hmacWithSHA1, and -scrypt, of one ed25519 key.
var opensslKeys = map[string]string{
	"aes256": `MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAhbGeom+P8ULAICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEJAO0IinAmZUQIlr1q9hjFoEQDTD
C7DZoYLQ5tir3bTRi1R3XjBWOUw/scY6jDfQL/ULgIx5ba3D2zFiN5WQjlMhOWEv
0KzfVejS4S38ZcAXQ74=`,
	"aes128sha1": `MIGNMEkGCSqGSIb3DQEFDTA8MBsGCSqGSIb3DQEFDDAOBAjQfGNN+es3lwICCAAw
HQYJYIZIAWUDBAECBBCRoAJZgb6M1GAtg6yCdmFqBEBMONrEDNn8fw9R19yrKGvM
/aIqmb75qJe84AC5BwJMaNHL5S7ez//v/O+SIcHYqHd3Ka7D4f2J35YBoOTqX7x7`,
	"scrypt": `MIGTME8GCSqGSIb3DQEFDTBCMCEGCSsGAQQB2kcECzAUBAhruWQL4s4f0AICQAAC
AQgCAQEwHQYJYIZIAWUDBAEqBBB/BlG5FnKUNxhbePzBd759BEDh5gK+TxjQCgaB
fCUqrEeXCepRp45uGrA8kTaVumFdB5gqjJBF0JsZ9eICZM5wTMmP5xjRK8JGWSQ/
uV+ChJ2V`,
}

func TestOpenSSLKeys(t *testing.T) {
	var ids []string
	for form, text := range opensslKeys {
		file := write(t,
			[]byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"+text+"\n-----END ENCRYPTED PRIVATE KEY-----\n"))
		got, err := ReadKey(file, func() ([]byte, error) { return []byte("kimg"), nil }, nil)
		if form == "scrypt" {
			if err == nil || !strings.Contains(err.Error(), "openssl pkcs8 -topk8") {
				t.Errorf("%s: %v", form, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", form, err)
			continue
		}
		ids = append(ids, got.ID)
		for n := range 300 { // one wrong passphrase in 256 leaves what looks like padding
			wrong := func() ([]byte, error) { return []byte{byte(n), byte(n >> 8)}, nil }
			if _, err := ReadKey(file, wrong, nil); err == nil {
				t.Errorf("%s was opened with another passphrase", form)
			}
		}
	}
	if len(ids) != 2 || ids[0] != ids[1] {
		t.Errorf("one key in two forms is %q", ids)
	}
}

func FuzzPBES2(f *testing.F) {
	for _, text := range opensslKeys {
		f.Add(must(base64.StdEncoding.DecodeString(strings.ReplaceAll(text, "\n", ""))))
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		if len(der) > 4096 || bytes.Contains(der, []byte{2, 3}) || bytes.Contains(der, []byte{2, 4}) {
			return // many iterations: slow, and nothing else
		}
		if plain, err := openPBES2(der, []byte("x")); err == nil && len(plain) > len(der) {
			t.Errorf("%d bytes out of %d", len(plain), len(der))
		}
	})
}

func TestBadKeys(t *testing.T) {
	small := &pem.Block{
		Type: "RSA PRIVATE KEY", Bytes: must(base64.StdEncoding.DecodeString(strings.ReplaceAll(rsa1024, "\n", ""))),
	}
	p224 := pkcs8(must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader)))
	ed := signers()["ed25519"]
	for name, tt := range map[string]struct{ text, private, public string }{
		"nothing": {"", "no private key", "no public key"},
		"text":    {"hello\n", "no private key", "no public key"},
		"cut off": {string(pem.EncodeToMemory(pkcs8(ed))[:60]), "no private key", "no public key"},
		"not base64": {"-----BEGIN PRIVATE KEY-----\n????\n-----END PRIVATE KEY-----\n",
			"no private key", "no public key"},
		"a private":  {string(pem.EncodeToMemory(pkcs8(ed))), "", "it holds a PRIVATE KEY: want the public key"},
		"a public":   {string(pem.EncodeToMemory(public(ed))), "it holds a PUBLIC KEY: want the private key", ""},
		"an old RSA": {string(pem.EncodeToMemory(small)), "1024 bits", "want the public key"},
		"P-224":      {string(pem.EncodeToMemory(p224)), "P-224", "want the public key"},
		"an sk key": {"sk-ssh-ed25519@openssh.com " +
			"AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIJFCX9j+Gk8wDFYnv0pBSiw8x5ZcS3DyFeUi1M3nE3k3AAAABHNzaDo= me\n",
			"no private key", "want ed25519"},
		"much": {strings.Repeat("x", maxKey+1), "more than", "more than"},
		"sealed junk": {"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n",
			"not an encrypted key", "want the public key"},
	} {
		file := write(t, []byte(tt.text))
		var bad *KeyError
		_, err := ReadKey(file, func() ([]byte, error) { return []byte(pass), nil }, func(string) {})
		if tt.private == "" && err != nil || tt.private != "" &&
			(!errors.As(err, &bad) || !strings.Contains(err.Error(), tt.private)) {
			t.Errorf("%s as a private key: %v, want %q", name, err, tt.private)
		}
		_, err = ReadPublicKey(file)
		if tt.public == "" && err != nil || tt.public != "" &&
			(!errors.As(err, &bad) || !strings.Contains(err.Error(), tt.public)) {
			t.Errorf("%s as a public key: %v, want %q", name, err, tt.public)
		}
	}
	var bad *KeyError
	for _, file := range []string{filepath.Join(t.TempDir(), "none"), t.TempDir()} {
		if _, err := ReadKey(file, noPassphrase, func(string) {}); !errors.As(err, &bad) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestKeyThatOthersMayRead(t *testing.T) {
	file := write(t, pem.EncodeToMemory(pkcs8(signers()["ed25519"])))
	for mode, want := range map[os.FileMode]int{0o600: 0, 0o400: 0, 0o640: 1, 0o604: 1, 0o644: 1} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		said := 0
		if _, err := ReadKey(file, noPassphrase, func(string) { said++ }); err != nil || said != want {
			t.Errorf("mode %04o: warned %d times, want %d (%v)", mode, said, want, err)
		}
	}
}

func TestSign(t *testing.T) {
	statement := provenance(t, fixture())
	others := signers()
	for kind, k := range signers() {
		key, pub := newTestKey(t, k)
		bundle, err := Sign(t.Context(), nil, statement, key)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Sign(t.Context(), bundle, statement, key)
		if err != nil || !bytes.Equal(bundle, again) {
			t.Errorf("%s: signed twice it is not the same (%v)", kind, err)
		}
		if bytes.Count(bundle, []byte("\n")) != 1 || !bytes.HasSuffix(bundle, []byte("\n")) {
			t.Errorf("%s: it is not one line", kind)
		}
		_, other := newTestKey(t, others[kind])
		if s, err := Verify(t.Context(), bundle, statement, []*PublicKey{other}); err != nil ||
			len(s.By) != 0 || len(s.Claimed) != 1 || s.Claimed[0] != pub.ID {
			t.Errorf("%s by another key: %+v (%v)", kind, s, err)
		}
		if s, err := Verify(t.Context(), bundle, statement, []*PublicKey{other, pub, pub}); err != nil ||
			len(s.By) != 1 || s.By[0].ID != pub.ID {
			t.Errorf("%s: %+v (%v)", kind, s, err)
		}
		if _, err := Verify(t.Context(), bundle, statement[1:], []*PublicKey{pub}); !errors.Is(err, ErrOther) {
			t.Errorf("%s of another statement: %v", kind, err)
		}
		// As the DSSE library alone reads it, with ids and types of its own.
		var e dsse.Envelope
		if err := json.Unmarshal(bundle, &e); err != nil {
			t.Fatal(err)
		}
		v := must(dsse.NewEnvelopeVerifier(&PublicKey{key: k.Public(), Type: kind}))
		if accepted, err := v.Verify(t.Context(), &e); err != nil || len(accepted) != 1 ||
			accepted[0].KeyID != e.Signatures[0].KeyID {
			t.Errorf("%s: the library's own key id is not the envelope's: %v (%v)", kind, accepted, err)
		}
	}
}

// in-toto's own tools sign by PSS with an RSA key.
func TestPSS(t *testing.T) {
	k := must(rsa.GenerateKey(rand.Reader, 2048))
	_, pub := newTestKey(t, k)
	sum := sha256.Sum256([]byte("data"))
	sig := must(rsa.SignPSS(rand.Reader, k, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: 32}))
	if err := pub.Verify(t.Context(), []byte("data"), sig); err != nil {
		t.Error(err)
	}
	if err := pub.Verify(t.Context(), []byte("Data"), sig); err == nil {
		t.Error("of other data")
	}
}

func TestSignByMany(t *testing.T) {
	statement := provenance(t, fixture())
	all := signers()
	a, pubA := newTestKey(t, all["ed25519"])
	b, pubB := newTestKey(t, all["ecdsa-p256"])
	one := must(Sign(t.Context(), nil, statement, a))
	both := must(Sign(t.Context(), one, statement, b))
	if other := must(Sign(t.Context(), must(Sign(t.Context(), nil, statement, b)), statement, a)); !bytes.Equal(both,
		other) {
		t.Error("the order of signing is seen in the bundle")
	}
	for _, pub := range []*PublicKey{pubA, pubB} {
		if s, err := Verify(t.Context(), both, statement, []*PublicKey{pub}); err != nil ||
			len(s.By) != 1 || len(s.Claimed) != 2 {
			t.Errorf("%+v (%v)", s, err)
		}
	}

	// Another build: its statement's envelope goes, and what others put there stays.
	changed := fixture()
	changed.Artifacts[0].SHA256 = sum("other")
	next := provenance(t, changed)
	foreign := "{\"note\": \"of another tool\"}\n"
	if now := Current(append([]byte(foreign), both...), next); string(now) != foreign {
		t.Errorf("of the earlier build is left %.200q", now)
	}
	if now := Current(both, statement); !bytes.Equal(now, both) {
		t.Error("of this build is left another bundle")
	}
	if now := Current(both, next); len(now) != 0 {
		t.Errorf("of the earlier build is left %.200q", now)
	}
	signed := must(Sign(t.Context(), append([]byte(foreign), both...), next, a))
	if s, err := Verify(t.Context(), signed, next, []*PublicKey{pubA, pubB}); err != nil ||
		len(s.By) != 1 || !bytes.HasPrefix(signed, []byte(foreign)) {
		t.Errorf("%+v (%v)", s, err)
	}
}

// Each bit of a bundle matters, except for those of the key id, which is an unsigned hint.
func TestFlippedBundle(t *testing.T) {
	b := fixture()
	b.Materials, b.Artifacts = b.Materials[:1], b.Artifacts[:1]
	statement := provenance(t, b)
	key, pub := newTestKey(t, signers()["ed25519"])
	bundle := must(Sign(t.Context(), nil, statement, key))
	id := bytes.Index(bundle, []byte(key.ID))
	for at := range bundle {
		if at >= id && at < id+len(key.ID) {
			continue
		}
		for _, bit := range []byte{1, 0x20} {
			bad := slices.Clone(bundle)
			bad[at] ^= bit
			if s, err := Verify(t.Context(), bad, statement, []*PublicKey{pub}); err == nil && len(s.By) > 0 {
				t.Errorf("byte %d of %d, %q, became %q and was let pass: ...%s...", at,
					len(bad), bundle[at], bad[at], bad[max(0, at-20):min(len(bad), at+20)])
			}
		}
	}
}

// TestKeyIDIsAHint: others sign with ids of their own making, and anybody may write
// another one.
func TestKeyIDIsAHint(t *testing.T) {
	statement := provenance(t, fixture())
	for kind, signer := range signers() {
		key, pub := newTestKey(t, signer)
		_, other := newTestKey(t, must(rsa.GenerateKey(rand.Reader, 2048)))
		bundle := string(must(Sign(t.Context(), nil, statement, key)))
		for _, id := range []string{"release@example.org", "", "00ff", other.ID} {
			renamed := strings.Replace(bundle, key.ID, id, 1)
			s, err := Verify(t.Context(), []byte(renamed), statement, []*PublicKey{other, pub})
			if err != nil || len(s.By) != 1 || s.By[0] != pub || renamed == bundle {
				t.Errorf("%s with the id %q: %+v (%v)", kind, id, s, err)
			}
		}
	}
}

func TestHostileBundles(t *testing.T) {
	statement := provenance(t, fixture())
	key, pub := newTestKey(t, signers()["ed25519"])
	bundle := string(must(Sign(t.Context(), nil, statement, key)))
	other := "application/vnd.other+json"
	e := must(must(dsse.NewEnvelopeSigner(key)).SignPayload(t.Context(), other, statement))
	for name, tt := range map[string]struct{ text, want string }{
		"empty": {"", "no signature of this build"},
		"deep":  {strings.Repeat("[", 20_000), "no signature of this build"},
		"deep in it": {strings.Replace(bundle, `"signatures"`,
			`"x":`+strings.Repeat("[", 20_000)+`,"signatures"`, 1), "no signature of this build"},
		"huge":             {strings.Repeat(" ", MaxSignature+1), "more than"},
		"the type":         {strings.Replace(bundle, payloadType, other, 1), "no signature of this build"},
		"the type, signed": {string(must(json.Marshal(e))), "no signature of this build"},
		"a field twice": {strings.Replace(bundle, `"payloadType"`, `"payload":"e30=","payloadType"`, 1),
			"no signature of this build"},
		"twice, no longer": {strings.Replace(strings.Replace(bundle, `"payloadType"`,
			`"payload":"e30=","payloadType"`, 1), `"signatures":[`,
			`"signatures":[{"keyid":"`+strings.Repeat("\u2028", 20)+`","sig":""},`, 1), "no signature of this build"},
		"a field more": {strings.Replace(bundle, `"payloadType"`, `"Payload":"e30=","payloadType"`, 1),
			"no signature of this build"},
		"no signature in it": {bundle[:strings.Index(bundle, `"signatures"`)] + `"signatures":[]}`, ""},
		"null signatures":    {bundle[:strings.Index(bundle, `"signatures"`)] + `"signatures":null}`, ""},
	} {
		s, err := Verify(t.Context(), []byte(tt.text), statement, []*PublicKey{pub})
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) ||
			len(s.By) > 0 {
			t.Errorf("%s: %+v (%v), want %q", name, s, err, tt.want)
		}
	}
}

func FuzzBundle(f *testing.F) {
	statement := []byte("{}")
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	key := must(newKey(ed))
	f.Add(must(Sign(f.Context(), nil, statement, key)))
	f.Add([]byte("{\"payload\":\"e30=\",\"payloadType\":\"application/vnd.in-toto+json\",\"signatures\":[{}]}\n"))
	f.Fuzz(func(t *testing.T, bundle []byte) {
		_, _ = Verify(t.Context(), bundle, statement, []*PublicKey{&key.PublicKey})
		signed, err := Sign(t.Context(), bundle, statement, key)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := Verify(t.Context(), signed, statement, []*PublicKey{&key.PublicKey}); err != nil ||
			len(s.By) != 1 {
			t.Errorf("signed on top of %q it does not verify: %+v (%v)", bundle, s, err)
		}
	})
}

// rsa1024 is a key that is too small, in PKCS #1.
const rsa1024 = `MIICWwIBAAKBgQDbrDPzG0Vibw7W6w5+AARLoyTHwFttivoNSwx5VItf15gquUAVA3Df+j5ohio8uQ55wJBNfzp84mxnGZNxnhYF
l4H10drAhn3Y88Ti2IjypMkN93S9UkU9NcgABMb0Teg4uknVg2qbNGi30udO+BiTtCkh9Huk2QxkEyvAWRC8gwIDAQABAoGAFHu/
MFkHpEEU0ieC527a966TvGiMXe+Kl3i7BglDIcG5t6okdpEmkkwES7zO7XCYD/RLwF4vtvtp/kcdP4ftJ5YOrnXDeebXEdwA3AEC
8AA1wqhCBHGKsViYyqrLe/ysJU1tRwaf7plxOwC9KGSWuXrL9CIkxMV/VhOiVmhOzCkCQQD4LjmI9M2FcWTfav1BizLNVUEq3mJr
Yj+f/PeHkOBW/rTD4GTUwkfHMWluUJh43yNVRhocft7fph0W9CMB/iaHAkEA4pgKBF27RmFsHfTFIRGQSdOcn3vO6xyuGsBhsZyD
I2/9IZPw9WoQwuRCHrTpR8E/tmwaZct4a+1FJKrQoWE9JQJAVZRjBKYd5MEYXq5fDGX6q7GVWjn7SDpF5F5v4NCFe5ozLURIoNEp
vTd9uquSGEQhw/r7cA4Tvp1idJLVK4+/KwJAQww56pDRmUG6fCKxMdfAmhfDgG1iDK+v1LqYLbXiF9pLTGQ6KGP6EbD4350oadME
xzW1mela+JR8oRzqHtZnAQJAA8+Fj8NocLt1dkZKhxRngw51WMatrqxicsfvn+w7n9/3TaJ7MsUJoYiSc6dMNPKCN8cUhMVODZ8s
WRkaq2J8Kg==`
