package archive

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

const text = "Origin: Debian\nCodename: trixie\n- dashes\n"

func TestOpenSigned(t *testing.T) {
	good, other := newKey(t, "good", 0), newKey(t, "other", 0)
	k := &Keyring{openpgp.EntityList{good}}
	for name, data := range map[string][]byte{
		"one signature":          signed(t, text, good),
		"with an unknown one":    signed(t, text, other, good),
		"lines of another world": bytes.ReplaceAll(signed(t, text, good), []byte("\n"), []byte("\r\n")),
	} {
		got, by, err := openSigned(data, k, today)
		if err != nil || !slices.Equal(by, k.Fingerprints()) || string(got) != text {
			t.Errorf("%s: %q by %v, %v", name, got, by, err)
		}
	}
}

func TestOpenSignedRefuses(t *testing.T) {
	good, other := newKey(t, "good", 0), newKey(t, "other", 0)
	expired := newKey(t, "expired", 3600)
	k := &Keyring{openpgp.EntityList{good, expired}}
	doc := signed(t, text, good)
	for name, c := range map[string]struct {
		data []byte
		why  string
	}{
		"empty":                     {nil, "it is empty"},
		"unsigned":                  {[]byte(text), "begins with \"Origin: Debian\""},
		"a web page":                {[]byte("<html>\nlog in</html>"), "begins with \"<html>\""},
		"unknown key":               {signed(t, text, other), "may not sign it"},
		"expired key":               {signed(t, text, expired), "has expired"},
		"from the future":           {signedAt(t, text, today.Add(time.Hour), good), "check this machine's clock"},
		"changed text":              {bytes.Replace(doc, []byte("trixie"), []byte("trixia"), 1), "does not match"},
		"added line":                {bytes.Replace(doc, []byte("Origin"), []byte("Evil: yes\nOrigin"), 1), "does not match"},
		"one of two is bad":         {mixed(t, good, other), "does not match"},
		"text before it":            {append([]byte("Evil: yes\n\n"), doc...), "does not begin"},
		"text behind it":            {append(bytes.Clone(doc), "Evil: yes\n"...), "behind its signature"},
		"a second document":         {append(bytes.Clone(doc), doc...), "behind its signature"},
		"cut in the text":           {doc[:60], "cut off"},
		"cut in the signature":      {doc[:len(doc)-40], "cut off"},
		"weak digest":               {weakly(t, good), "can be forged"},
		"an odd header":             {bytes.Replace(doc, []byte("Hash: "), []byte("Evil: "), 1), "cut off or cannot be read"},
		"a key for its signature":   {swapSignature(t, doc, good), "not a signature"},
		"an armor of nothing in it": {swapSignature(t, doc, nil), "is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			got, by, err := openSigned(c.data, k, today)
			if err == nil || got != nil || by != nil {
				t.Fatalf("accepted: %q by %v", got, by)
			}
			if !strings.Contains(err.Error(), c.why) {
				t.Errorf("it says %q, want %q", err, c.why)
			}
		})
	}
}

func TestKeyIsJudgedAsOfThatTime(t *testing.T) {
	key := newKey(t, "short", 2*24*3600) // until a day after today
	k := &Keyring{openpgp.EntityList{key}}
	doc := signed(t, text, key)
	if _, _, err := openSigned(doc, k, today); err != nil {
		t.Errorf("while the key lived: %v", err)
	}
	if _, _, err := openSigned(doc, k, today.AddDate(1, 0, 0)); err == nil {
		t.Error("a year later it is accepted")
	}
}

// mixed is a document with the signatures of good for another text and of other
// for its own.
func mixed(t *testing.T, good, other *openpgp.Entity) []byte {
	return bytes.Replace(signed(t, text, good, other), []byte("Debian"), []byte("Damian"), 1)
}

// weakly signs with SHA-1, as nobody's program would by itself.
func weakly(t *testing.T, key *openpgp.Entity) []byte {
	t.Helper()
	sig := &packet.Signature{Version: 4, SigType: packet.SigTypeText, PubKeyAlgo: key.PrimaryKey.PubKeyAlgo,
		Hash: crypto.SHA1, CreationTime: today.Add(-time.Hour), IssuerKeyId: &key.PrimaryKey.KeyId}
	h := crypto.SHA1.New()
	fmt.Fprint(h, strings.ReplaceAll(text, "\n", "\r\n"))
	if err := sig.Sign(h, key.PrivateKey, &packet.Config{NonDeterministicSignaturesViaNotation: new(bool)}); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := sig.Serialize(&buf); err != nil {
		t.Fatal(err)
	}
	doc := signed(t, text, key)
	return bytes.Replace(replaceArmor(t, doc, buf.Bytes()), []byte("Hash: SHA256\n"), nil, 1)
}

// swapSignature puts a public key, or nothing, where the signature is.
func swapSignature(t *testing.T, doc []byte, key *openpgp.Entity) []byte {
	t.Helper()
	var buf bytes.Buffer
	if key != nil {
		if err := key.Serialize(&buf); err != nil {
			t.Fatal(err)
		}
	}
	return replaceArmor(t, doc, buf.Bytes())
}

func replaceArmor(t *testing.T, doc, body []byte) []byte {
	t.Helper()
	head, _, ok := bytes.Cut(doc, []byte("-----BEGIN PGP SIGNATURE-----"))
	if !ok {
		t.Fatal("no signature to replace")
	}
	var buf bytes.Buffer
	w, err := armor.Encode(&buf, "PGP SIGNATURE", nil)
	if err == nil {
		_, err = w.Write(body)
		err = errors.Join(err, w.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return slices.Concat(head, buf.Bytes(), []byte("\n"))
}

func FuzzOpenSigned(f *testing.F) {
	key := newKey(f, "key", 0)
	k := &Keyring{openpgp.EntityList{key}}
	doc := signed(f, text, key)
	f.Add(doc)
	f.Add(doc[:len(doc)/2])
	f.Add([]byte(beginSigned + "\nHash: SHA256\n\n-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n"))
	f.Add([]byte("<html>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, by, err := openSigned(data, k, today)
		if err == nil && (len(by) == 0 || string(got) != text) {
			t.Errorf("a text that the key never signed is accepted: %q", got)
		}
	})
}

func FuzzParseRelease(f *testing.F) {
	f.Add([]byte("Codename: trixie\nDate: Mon, 15 Jun 2026 10:00:00 UTC\nValid-Until: Mon, 22 Jun 2026 10:00:00 UTC\nSHA256:\n " + strings.Repeat("ab", 32) + " 12 main/Packages\n"))
	f.Add([]byte("SHA256:\n\n x"))
	f.Add([]byte("-----BEGIN PGP SIGNED MESSAGE-----\n\nCodename: x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rel, err := parseRelease(data)
		if err != nil {
			return
		}
		for name, file := range rel.files {
			if name == "" || file.size < 0 || len(file.sha256) != 64 {
				t.Errorf("it lists %q: %+v", name, file)
			}
		}
	})
}
