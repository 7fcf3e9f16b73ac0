package suite

import (
	"embed"
	"fmt"

	"github.com/kimg/kimg/internal/pgp"
)

// keyFiles are the keys of each family, armored, with their own signatures and no others. They were written with
//
//	gpg --export-options export-minimal --armor --export FINGERPRINT...
//
//go:embed keys/*.asc
var keyFiles embed.FS

// Keyring returns the keys that may sign the suite's InRelease.
func (s Suite) Keyring() (*pgp.Keyring, error) {
	f, err := keyFiles.Open("keys/" + s.Family.Name + ".asc")
	if err != nil {
		return nil, fmt.Errorf("read keys of %s: %w", s.Family, err)
	}
	defer f.Close()
	k, err := pgp.ReadKeyring(f)
	if err != nil {
		return nil, fmt.Errorf("read keys of %s: %w", s.Family, err)
	}
	return k.Only(s.signers...), nil
}
