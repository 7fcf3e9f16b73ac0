//go:build linux

package e2e

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// signed signs the build in out and checks it, once with kimg and once with
// readers that share no code with it. Nothing is left in out.
func signed(t *testing.T, k kimg, out string) {
	dir := t.TempDir()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name, kind string, der []byte, err error) string {
		name = filepath.Join(dir, name)
		if err := errors.Join(err, os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}),
			0o600)); err != nil {
			t.Fatal(err)
		}
		return name
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	key := file("key.pem", "PRIVATE KEY", der, err)
	der, err = x509.MarshalPKIXPublicKey(public)
	pub := file("key.pub", "PUBLIC KEY", der, err)

	k.run(t, "", "verify", out).want(t, 0)
	k.run(t, "", "verify", "--key", pub, out).want(t, 7) // not yet
	k.run(t, "", "sign", "--sign-key", key, out).want(t, 0)
	bundle := filepath.Join(out, "provenance.intoto.jsonl")
	defer os.Remove(bundle)
	k.run(t, "", "verify", "--key", pub, out).want(t, 0)

	statement, err := os.ReadFile(filepath.Join(out, "provenance.json"))
	if err != nil {
		t.Fatal(err)
	}
	envelope(t, bundle, statement, public)
	subjects(t, out, statement)

	sbom := filepath.Join(out, "sbom.spdx.json")
	good, err := os.ReadFile(sbom)
	if err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile(sbom, good, 0o644)
	bad := bytes.Clone(good)
	bad[len(bad)/2] ^= 1
	if err := os.WriteFile(sbom, bad, 0o644); err != nil {
		t.Fatal(err)
	}
	k.run(t, "", "verify", "--key", pub, out).want(t, 7)
}

// envelope checks the signature by DSSE's own words (protocol.md).
func envelope(t *testing.T, bundle string, statement []byte, public ed25519.PublicKey) {
	t.Helper()
	b, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	var e struct {
		PayloadType string
		Payload     []byte
		Signatures  []struct{ Sig string }
	}
	if err := json.Unmarshal(b, &e); err != nil || len(e.Signatures) != 1 || !bytes.Equal(e.Payload, statement) {
		t.Fatalf("%d signatures, of another statement or none (%v)", len(e.Signatures), err)
	}
	sig, err := base64.StdEncoding.DecodeString(e.Signatures[0].Sig)
	said := fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(e.PayloadType), e.PayloadType, len(e.Payload), e.Payload)
	if err != nil || !ed25519.Verify(public, said, sig) {
		t.Errorf("the signature is not the key's (%v)", err)
	}
}

// subjects hashes what a statement vouches for: every artifact, and the SBOM.
func subjects(t *testing.T, out string, statement []byte) {
	t.Helper()
	var st struct {
		Subject []struct {
			Name   string
			Digest struct{ SHA256 string }
		}
	}
	if err := json.Unmarshal(statement, &st); err != nil {
		t.Fatal(err)
	}
	if want := len(readManifest(t, out).Build.Artifacts) + 1; len(st.Subject) != want {
		t.Errorf("%d subjects, want %d", len(st.Subject), want)
	}
	for _, s := range st.Subject {
		f, err := os.Open(filepath.Join(out, filepath.FromSlash(s.Name)))
		if err != nil {
			t.Error(err)
			continue
		}
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			t.Error(err)
		}
		f.Close()
		if got := hex.EncodeToString(h.Sum(nil)); got != s.Digest.SHA256 {
			t.Errorf("%s has sha256 %s, the statement says %s", s.Name, got, s.Digest.SHA256)
		}
	}
}
