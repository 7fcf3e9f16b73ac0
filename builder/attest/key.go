package attest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// PublicKey is a key that may have signed.
type PublicKey struct {
	File string // where it was read from; empty: not from a file
	ID   string // its fingerprint, as ssh-keygen -l prints it: SHA256:...
	Type string // ed25519, ecdsa-p256, ecdsa-p384 or rsa
	key  crypto.PublicKey
}

// minRSA is the least size of an RSA key, in bits (NIST SP 800-131A).
const minRSA = 2048

// wantKinds are the kinds of keys, in errors.
const wantKinds = "want ed25519, ECDSA with P-256 or P-384, or RSA"

var errKind = errors.New("it is of a kind that kimg does not sign with: " + wantKinds)

func newPublicKey(key crypto.PublicKey) (*PublicKey, error) {
	p := &PublicKey{key: key}
	switch k := key.(type) {
	case ed25519.PublicKey:
		p.Type = "ed25519"
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			p.Type = "ecdsa-p256"
		case elliptic.P384():
			p.Type = "ecdsa-p384"
		default:
			return nil, fmt.Errorf("its curve is %s: want P-256 or P-384", k.Curve.Params().Name)
		}
	case *rsa.PublicKey:
		if p.Type = "rsa"; k.N.BitLen() < minRSA {
			return nil, fmt.Errorf("it has %d bits: an RSA key needs %d", k.N.BitLen(), minRSA)
		}
	default:
		return nil, errKind
	}
	asSSH, err := ssh.NewPublicKey(key)
	if err != nil {
		return nil, err
	}
	p.ID = ssh.FingerprintSHA256(asSSH)
	return p, nil
}

// digest is what is signed of data, and by which hash; ed25519 signs data itself.
func (p *PublicKey) digest(data []byte) ([]byte, crypto.Hash) {
	switch p.Type {
	case "ed25519":
		return data, crypto.Hash(0)
	case "ecdsa-p384":
		sum := sha512.Sum384(data)
		return sum[:], crypto.SHA384
	}
	sum := sha256.Sum256(data)
	return sum[:], crypto.SHA256
}

// Verify implements dsse.Verifier.
func (p *PublicKey) Verify(_ context.Context, data, sig []byte) error {
	sum, hash := p.digest(data)
	ok := false
	switch k := p.key.(type) {
	case ed25519.PublicKey:
		ok = ed25519.Verify(k, sum, sig)
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(k, sum, sig)
	case *rsa.PublicKey:
		// kimg signs by PKCS #1 v1.5, as cosign does; in-toto's own tools by PSS.
		ok = rsa.VerifyPKCS1v15(k, hash, sum, sig) == nil || rsa.VerifyPSS(k, hash, sum, sig, nil) == nil
	}
	if !ok {
		return errors.New("it is not signed by " + p.ID)
	}
	return nil
}

// KeyID implements dsse.Verifier.
func (p *PublicKey) KeyID() (string, error) { return p.ID, nil }

// Public implements dsse.Verifier.
func (p *PublicKey) Public() crypto.PublicKey { return p.key }

// Key signs.
type Key struct {
	PublicKey
	signer crypto.Signer
}

func newKey(raw any) (*Key, error) {
	if k, ok := raw.(*ed25519.PrivateKey); ok { // what OpenSSH's form gives
		raw = *k
	}
	signer, ok := raw.(crypto.Signer)
	if !ok {
		return nil, errKind
	}
	p, err := newPublicKey(signer.Public())
	if err != nil {
		return nil, err
	}
	return &Key{*p, signer}, nil
}

// Sign implements dsse.Signer. The same data gives the same signature: ed25519 and
// PKCS #1 v1.5 use no random numbers, and ECDSA without a random source derives its
// nonce from key and data (RFC 6979). PSS is random, and for that reason not used.
func (k *Key) Sign(_ context.Context, data []byte) ([]byte, error) {
	sum, hash := k.digest(data)
	return k.signer.Sign(nil, sum, hash)
}

// parsePublic reads a public key: PEM as openssl writes it, or a line as ssh-keygen does.
func parsePublic(text []byte) (*PublicKey, error) {
	if block, _ := pem.Decode(text); block != nil {
		if block.Type != "PUBLIC KEY" {
			return nil, fmt.Errorf("it holds a %s: want the public key "+
				"(openssl pkey -in KEY -pubout, or the .pub file of ssh-keygen)", block.Type)
		}
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		return newPublicKey(key)
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		return nil, errors.New("it holds no public key, neither in PEM nor as ssh-keygen writes it")
	}
	bare, ok := key.(ssh.CryptoPublicKey)
	if !ok || strings.HasPrefix(key.Type(), "sk-") { // a security key signs more than it is given
		return nil, fmt.Errorf("it holds a key of the kind %s: %s", key.Type(), wantKinds)
	}
	return newPublicKey(bare.CryptoPublicKey())
}
