package pgp

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/kimg/kimg/internal/pgp/pgptest"
)

var content = bytes.Repeat([]byte("a tar, most likely\r\n"), 10_000)

// unarmored is the packets of an armored signature.
func unarmored(t *testing.T, sig []byte) []byte {
	t.Helper()
	block, err := armor.Decode(bytes.NewReader(sig))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(block.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestVerifyDetached(t *testing.T) {
	good, second, other := pgptest.NewKey(t, "good", 0), pgptest.NewKey(t, "second", 0), pgptest.NewKey(t, "other", 0)
	short := pgptest.NewKey(t, "short", 2*24*3600) // until a day after Today
	renewed := pgptest.NewKey(t, "renewed", 0)
	old := pgptest.Detached(t, content, renewed)
	self, _ := renewed.PrimarySelfSignature()
	self.CreationTime = pgptest.Today.AddDate(1, 0, 0)
	k := &Keyring{openpgp.EntityList{good, second, short, renewed}}
	both := slices.Concat(unarmored(t, pgptest.Detached(t, content, good)),
		unarmored(t, pgptest.Detached(t, content, second)))
	for name, c := range map[string]struct {
		sig []byte
		at  time.Time
		by  []*openpgp.Entity
	}{
		"armored": {pgptest.Detached(t, content, good), pgptest.Today, []*openpgp.Entity{good}},
		"binary": {unarmored(t, pgptest.Detached(t, content, good)), pgptest.Today,
			[]*openpgp.Entity{good}},
		"two": {both, pgptest.Today, []*openpgp.Entity{good, second}},
		"one is a stranger's": {slices.Concat(unarmored(t, pgptest.Detached(t, content, other)), both), pgptest.Today,
			[]*openpgp.Entity{good, second}},
		"key renewed since": {old, pgptest.Today.AddDate(9, 0, 0), []*openpgp.Entity{renewed}},
		"key ran out since": {pgptest.Detached(t, content, short), pgptest.Today.AddDate(9, 0, 0),
			[]*openpgp.Entity{short}},
	} {
		by, err := VerifyDetached(iotest.HalfReader(bytes.NewReader(content)), c.sig, k, c.at)
		if want := (&Keyring{c.by}).Fingerprints(); err != nil || !slices.Equal(by, want) {
			t.Errorf("%s: by %v, want %v, %v", name, by, want, err)
		}
	}
}

func TestVerifyDetachedRefuses(t *testing.T) {
	good, other := pgptest.NewKey(t, "good", 0), pgptest.NewKey(t, "other", 0)
	short, revoked := pgptest.NewKey(t, "short", 0), pgptest.NewKey(t, "revoked", 0)
	late := pgptest.Detached(t, content, short)
	hour := uint32(3600) // no program signs with an expired key: this one is, from here on
	self, _ := short.PrimarySelfSignature()
	self.KeyLifetimeSecs = &hour
	stolen := pgptest.Detached(t, content, revoked)
	if err := revoked.RevokeKey(packet.KeyCompromised, "stolen",
		&packet.Config{Time: func() time.Time { return pgptest.Today }}); err != nil {
		t.Fatal(err)
	}
	k := &Keyring{openpgp.EntityList{good, short, revoked}}
	sig := pgptest.Detached(t, content, good)
	changed := bytes.Clone(content)
	changed[len(changed)/2] ^= 1
	for name, c := range map[string]struct {
		content, sig []byte
		unvouched    bool
		why          string
	}{
		"changed": {changed, sig, false, "does not match"},
		"cut":     {content[:len(content)-1], sig, false, "does not match"},
		"one of two is bad": {content,
			slices.Concat(unarmored(t, sig),
				unarmored(t, pgptest.Detached(t, changed, good))), false, "does not match"},
		"unknown key":                {content, pgptest.Detached(t, content, other), true, "may not sign it"},
		"made after the key ran out": {content, late, true, "has expired"},
		"stolen key, revoked since":  {content, stolen, false, "revoked"},
		"from the future": {content, pgptest.DetachedAt(t, content, pgptest.Today.Add(time.Hour), good),
			false, "clock"},
		"a web page":                  {content, []byte("<html>\nlog in"), true, "<html>"},
		"empty":                       {content, nil, true, "it is empty"},
		"a cut signature":             {content, sig[:len(sig)-60], false, "cannot be read"},
		"a binary that is cut":        {content, unarmored(t, sig)[:20], false, "cannot be read"},
		"a key instead":               {content, replaceWithKey(t, good), false, "not a signature"},
		"a clear-signed text instead": {content, pgptest.Clear(t, "x", good), true, "does not begin"},
	} {
		t.Run(name, func(t *testing.T) {
			by, err := VerifyDetached(bytes.NewReader(c.content), c.sig, k, pgptest.Today)
			if err == nil || !strings.Contains(err.Error(), c.why) || errors.Is(err, ErrUnvouched) != c.unvouched {
				t.Errorf("by %v, %v (unvouched: %v), want %q (%v)", by, err, errors.Is(err, ErrUnvouched), c.why,
					c.unvouched)
			}
		})
	}
}

func replaceWithKey(t *testing.T, key *openpgp.Entity) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := armor.Encode(&buf, "PGP SIGNATURE", nil)
	if err == nil {
		err = errors.Join(key.Serialize(w), w.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestVerifyDetachedOfWhatCannotBeRead(t *testing.T) {
	good := pgptest.NewKey(t, "good", 0)
	broken := errors.New("disk on fire")
	_, err := VerifyDetached(io.MultiReader(bytes.NewReader(content), iotest.ErrReader(broken)),
		pgptest.Detached(t, content, good), &Keyring{openpgp.EntityList{good}}, pgptest.Today)
	if !errors.Is(err, broken) {
		t.Errorf("%v, want what reading it gave", err)
	}
}

// TestReadKeyring reads what people have: cat of two armored keys, with what
// "gpg --list-keys" prints above them, and a binary file.
func TestReadKeyring(t *testing.T) {
	one, two := pgptest.NewKey(t, "one", 0), pgptest.NewKey(t, "two", 0)
	armored := func(k *openpgp.Entity) string {
		var b strings.Builder
		w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
		if err == nil {
			err = errors.Join(k.Serialize(w), w.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		return b.String() + "\n"
	}
	var binary bytes.Buffer
	if err := errors.Join(one.Serialize(&binary), two.Serialize(&binary)); err != nil {
		t.Fatal(err)
	}
	want := (&Keyring{openpgp.EntityList{one, two}}).Fingerprints()
	for name, text := range map[string]string{
		"two blocks": armored(one) + armored(two),
		"text":       "pub   ed25519 2026-01-01\n" + armored(one) + "and\n" + armored(two) + "the end\n",
		"binary":     binary.String(),
	} {
		k, err := ReadKeyring(strings.NewReader(text))
		if err != nil || !slices.Equal(k.Fingerprints(), want) {
			t.Errorf("%s: %v, %v", name, k, err)
		}
	}
}

func TestReadKeyringRefuses(t *testing.T) {
	for _, bad := range []string{"", "<html>",
		"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n"} {
		if k, err := ReadKeyring(strings.NewReader(bad)); err == nil {
			t.Errorf("ReadKeyring(%q) = %v", bad, k.Fingerprints())
		}
	}
}

func TestTextOf(t *testing.T) {
	doc := pgptest.Clear(t, text, pgptest.NewKey(t, "stranger", 0))
	for _, in := range []string{text, string(doc)} {
		if got, err := TextOf([]byte(in)); err != nil || string(got) != text {
			t.Errorf("%q, %v", got, err)
		}
	}
	if _, err := TextOf(doc[:60]); err == nil {
		t.Error("a document that is cut was read")
	}
}
