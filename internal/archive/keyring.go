package archive

// Keyring is a set of OpenPGP keys that may sign an InRelease.
type Keyring struct{}

// Keyring returns the keys that may sign the suite's InRelease.
func (s Suite) Keyring() (*Keyring, error) { return nil, nil }
