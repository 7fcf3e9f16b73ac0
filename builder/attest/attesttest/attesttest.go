// Package attesttest makes keys for tests.
package attesttest

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/kimg/kimg/builder/attest"
)

// Key is a new key, in files as openssl writes them.
func Key(t *testing.T) (*attest.Key, *attest.PublicKey) {
	t.Helper()
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte, err error) string {
		file := filepath.Join(t.TempDir(), name)
		text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
		if err := errors.Join(err, os.WriteFile(file, text, 0o600)); err != nil {
			t.Fatal(err)
		}
		return file
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	key, err := attest.ReadKey(write("key.pem", "PRIVATE KEY", der, err), nil, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	der, err = x509.MarshalPKIXPublicKey(pub)
	public, err := attest.ReadPublicKey(write("key.pub", "PUBLIC KEY", der, err))
	if err != nil {
		t.Fatal(err)
	}
	return key, public
}
