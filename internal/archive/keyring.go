package archive

import (
	"bytes"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
)

// keyFiles are the keys of each family, armored, with their own signatures and
// no one else's. They were written with
//
//	gpg --export-options export-minimal --armor --export FINGERPRINT...
//
//go:embed keys/*.asc
var keyFiles embed.FS

// Keyring is a set of OpenPGP keys that may sign an InRelease.
type Keyring struct{ keys openpgp.EntityList }

// Keyring returns the keys that may sign the suite's InRelease.
func (s Suite) Keyring() (*Keyring, error) {
	f, err := keyFiles.Open("keys/" + string(s.Family) + ".asc")
	if err != nil {
		return nil, fmt.Errorf("read keys of %s: %w", s.Family, err)
	}
	defer f.Close()
	k, err := ReadKeyring(f)
	if err != nil {
		return nil, fmt.Errorf("read keys of %s: %w", s.Family, err)
	}
	k.keys = slices.DeleteFunc(k.keys, func(e *openpgp.Entity) bool { return !slices.Contains(s.keys, fingerprint(e)) })
	return k, nil
}

// ReadKeyring reads public keys, armored or not.
func ReadKeyring(r io.Reader) (*Keyring, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	read := openpgp.ReadKeyRing
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("-----BEGIN PGP")) {
		read = openpgp.ReadArmoredKeyRing
	}
	keys, err := read(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("read OpenPGP keys: %w", err)
	}
	return &Keyring{keys}, nil
}

// Fingerprints are those of the primary keys, in upper-case hexadecimal.
func (k *Keyring) Fingerprints() []string {
	var all []string
	for _, e := range k.keys {
		all = append(all, fingerprint(e))
	}
	return all
}

func fingerprint(e *openpgp.Entity) string {
	return strings.ToUpper(hex.EncodeToString(e.PrimaryKey.Fingerprint))
}
