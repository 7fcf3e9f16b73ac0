package pgp

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

	"github.com/kimg/kimg/internal/pgp/pgptest"
)

const text = "Origin: Debian\nCodename: trixie\n- dashes\n"

func TestOpenClear(t *testing.T) {
	good, other := pgptest.NewKey(t, "good", 0), pgptest.NewKey(t, "other", 0)
	k := &Keyring{openpgp.EntityList{good}}
	for name, data := range map[string][]byte{
		"one signature":          pgptest.Clear(t, text, good),
		"with an unknown one":    pgptest.Clear(t, text, other, good),
		"lines of another world": bytes.ReplaceAll(pgptest.Clear(t, text, good), []byte("\n"), []byte("\r\n")),
	} {
		got, by, err := OpenClear(data, k, pgptest.Today)
		if err != nil || !slices.Equal(by, k.Fingerprints()) || string(got) != text {
			t.Errorf("%s: %q by %v, %v", name, got, by, err)
		}
	}
}

func TestOpenClearRefuses(t *testing.T) {
	good, other := pgptest.NewKey(t, "good", 0), pgptest.NewKey(t, "other", 0)
	expired := pgptest.NewKey(t, "expired", 3600)
	k := &Keyring{openpgp.EntityList{good, expired}}
	doc := pgptest.Clear(t, text, good)
	for name, c := range map[string]struct {
		data []byte
		why  string
	}{
		"empty":       {nil, "it is empty"},
		"unsigned":    {[]byte(text), "begins with \"Origin: Debian\""},
		"a web page":  {[]byte("<html>\nlog in</html>"), "begins with \"<html>\""},
		"unknown key": {pgptest.Clear(t, text, other), "may not sign it"},
		"expired key": {pgptest.Clear(t, text, expired), "has expired"},
		"from the future": {pgptest.ClearAt(t, text, pgptest.Today.Add(time.Hour), good),
			"check this machine's clock"},
		"changed text": {bytes.Replace(doc, []byte("trixie"), []byte("trixia"), 1), "does not match"},
		"added line": {bytes.Replace(doc, []byte("Origin"), []byte("Evil: yes\nOrigin"), 1),
			"does not match"},
		"one of two is bad":    {mixed(t, good, other), "does not match"},
		"text before it":       {append([]byte("Evil: yes\n\n"), doc...), "does not begin"},
		"text behind it":       {append(bytes.Clone(doc), "Evil: yes\n"...), "behind its signature"},
		"a second document":    {append(bytes.Clone(doc), doc...), "behind its signature"},
		"cut in the text":      {doc[:60], "cut off"},
		"cut in the signature": {doc[:len(doc)-40], "cut off"},
		"weak digest":          {weakly(t, good), "can be forged"},
		"an odd header": {bytes.Replace(doc, []byte("Hash: "), []byte("Evil: "), 1),
			"cut off or cannot be read"},
		"a key for its signature":   {swapSignature(t, doc, good), "not a signature"},
		"an armor of nothing in it": {swapSignature(t, doc, nil), "is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			got, by, err := OpenClear(c.data, k, pgptest.Today)
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
	key := pgptest.NewKey(t, "short", 2*24*3600) // until a day after pgptest.Today
	k := &Keyring{openpgp.EntityList{key}}
	doc := pgptest.Clear(t, text, key)
	if _, _, err := OpenClear(doc, k, pgptest.Today); err != nil {
		t.Errorf("while the key lived: %v", err)
	}
	if _, _, err := OpenClear(doc, k, pgptest.Today.AddDate(1, 0, 0)); err == nil {
		t.Error("a year later it is accepted")
	}
}

// mixed is a document with the signatures of good for another text and of other
// for its own.
func mixed(t *testing.T, good, other *openpgp.Entity) []byte {
	return bytes.Replace(pgptest.Clear(t, text, good, other), []byte("Debian"), []byte("Damian"), 1)
}

// weakly signs with SHA-1, as nobody's program would by itself.
func weakly(t *testing.T, key *openpgp.Entity) []byte {
	t.Helper()
	sig := &packet.Signature{Version: 4, SigType: packet.SigTypeText, PubKeyAlgo: key.PrimaryKey.PubKeyAlgo,
		Hash: crypto.SHA1, CreationTime: pgptest.Today.Add(-time.Hour), IssuerKeyId: &key.PrimaryKey.KeyId}
	h := crypto.SHA1.New()
	fmt.Fprint(h, strings.ReplaceAll(text, "\n", "\r\n"))
	if err := sig.Sign(h, key.PrivateKey,
		&packet.Config{NonDeterministicSignaturesViaNotation: new(bool)}); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := sig.Serialize(&buf); err != nil {
		t.Fatal(err)
	}
	doc := pgptest.Clear(t, text, key)
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

func FuzzOpenClear(f *testing.F) {
	key := pgptest.NewKey(f, "key", 0)
	k := &Keyring{openpgp.EntityList{key}}
	doc := pgptest.Clear(f, text, key)
	f.Add(doc)
	f.Add(doc[:len(doc)/2])
	f.Add([]byte(beginSigned + "\nHash: SHA256\n\n-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n"))
	f.Add([]byte("<html>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, by, err := OpenClear(data, k, pgptest.Today)
		if err == nil && (len(by) == 0 || string(got) != text) {
			t.Errorf("a text that the key never signed is accepted: %q", got)
		}
	})
}
