// Package pgp is what kimg needs of OpenPGP: keyrings, clear-signed documents
// and detached signatures, read strictly.
package pgp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
)

// Keyring is a set of OpenPGP keys that may sign something.
type Keyring struct{ Keys openpgp.EntityList }

// maxKeyring is some fifty times what a distribution's largest is.
const maxKeyring = 16 << 20

// ReadKeyring reads public keys: binary ones, or every armored block of a text. RFC 9580, section 6.2.
func ReadKeyring(r io.Reader) (*Keyring, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxKeyring+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxKeyring {
		return nil, fmt.Errorf("read OpenPGP keys: more than %d bytes of them", maxKeyring)
	}
	var keys openpgp.EntityList
	if bytes.Contains(b, armorHead) {
		keys, err = readArmored(b)
	} else {
		keys, err = openpgp.ReadKeyRing(bytes.NewReader(b))
	}
	if err == nil && len(keys) == 0 {
		err = errors.New("there are none")
	}
	if err != nil {
		return nil, fmt.Errorf("read OpenPGP keys: %w", err)
	}
	return &Keyring{keys}, nil
}

var armorHead = []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----")

// readArmored reads all armored blocks of a text. ReadArmoredKeyRing reads only the first one.
func readArmored(text []byte) (all openpgp.EntityList, err error) {
	for i, block := range bytes.Split(text, armorHead) {
		if i == 0 { // what stands before the first
			continue
		}
		keys, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(slices.Concat(armorHead, block)))
		if err != nil {
			return nil, err
		}
		all = append(all, keys...)
	}
	return all, nil
}

// Write writes the keys, binary.
func (k *Keyring) Write(w io.Writer) error {
	for _, e := range k.Keys {
		if err := e.Serialize(w); err != nil {
			return fmt.Errorf("write OpenPGP keys: %w", err)
		}
	}
	return nil
}

// Only returns the keys of k with those primary fingerprints.
func (k *Keyring) Only(fingerprints ...string) *Keyring {
	var keys openpgp.EntityList
	for _, e := range k.Keys {
		if slices.Contains(fingerprints, fingerprint(e)) {
			keys = append(keys, e)
		}
	}
	return &Keyring{keys}
}

// Private reports whether a private key is among them.
func (k *Keyring) Private() bool {
	return slices.ContainsFunc(k.Keys, func(e *openpgp.Entity) bool {
		return e.PrivateKey != nil ||
			slices.ContainsFunc(e.Subkeys, func(s openpgp.Subkey) bool { return s.PrivateKey != nil })
	})
}

// Fingerprints are those of the primary keys, in upper-case hexadecimal.
func (k *Keyring) Fingerprints() []string {
	var all []string
	for _, e := range k.Keys {
		all = append(all, fingerprint(e))
	}
	return all
}

func fingerprint(e *openpgp.Entity) string {
	return strings.ToUpper(hex.EncodeToString(e.PrimaryKey.Fingerprint))
}
