// Package pgptest makes keys and signatures for tests. Nothing else imports it.
package pgptest

import (
	"bytes"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Today is the day on which these tests happen.
var Today = time.Date(2026, 6, 15, 12, 0, 0, 0, time.UTC)

// NewKey makes a key that lives from a day before Today for lifetime seconds; 0: for ever.
func NewKey(t testing.TB, name string, lifetime uint32) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity(name, "", name+"@example.org", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: lifetime,
		Time: func() time.Time { return Today.AddDate(0, 0, -1) }})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// ClearAt clear-signs text.
func ClearAt(t testing.TB, text string, at time.Time, keys ...*openpgp.Entity) []byte {
	t.Helper()
	var private []*packet.PrivateKey
	for _, k := range keys {
		private = append(private, k.PrivateKey)
	}
	var buf bytes.Buffer
	w, err := clearsign.EncodeMulti(&buf, private, &packet.Config{Time: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	buf.WriteByte('\n')
	return buf.Bytes()
}

// Clear is ClearAt an hour before Today.
func Clear(t testing.TB, text string, keys ...*openpgp.Entity) []byte {
	t.Helper()
	return ClearAt(t, text, Today.Add(-time.Hour), keys...)
}

// DetachedAt makes an armored detached signature of data.
func DetachedAt(t testing.TB, data []byte, at time.Time, key *openpgp.Entity) []byte {
	t.Helper()
	var buf bytes.Buffer
	err := openpgp.ArmoredDetachSign(&buf, key, bytes.NewReader(data),
		&packet.Config{Time: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// Detached is DetachedAt an hour before Today.
func Detached(t testing.TB, data []byte, key *openpgp.Entity) []byte {
	t.Helper()
	return DetachedAt(t, data, Today.Add(-time.Hour), key)
}
