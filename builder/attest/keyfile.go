package attest

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	"golang.org/x/crypto/ssh"

	"github.com/kimg/kimg/internal/reading"
)

// maxKey bounds a key's file, in bytes: that of a large RSA key has 12 KB.
const maxKey = 1 << 20

// KeyError reports a key that cannot be used.
type KeyError struct {
	File string
	Err  error
}

func (e *KeyError) Error() string { return fmt.Sprintf("read key %s: %v", e.File, e.Err) }

func (e *KeyError) Unwrap() error { return e.Err }

// Passphrase asks the user for the passphrase of a key.
type Passphrase func() ([]byte, error)

// ReadKey reads a private key: PKCS #8, encrypted or not, what openssl wrote before that, OpenSSH's own form, or
// cosign's. ask is called at most once; warn, if others may read or write the file.
func ReadKey(file string, ask Passphrase, warn func(string)) (*Key, error) {
	text, mode, err := readSmall(file)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	if mode.IsRegular() && mode.Perm()&0o077 != 0 {
		warn(fmt.Sprintf("the key %s may be read or written by others (its mode is %04o): chmod 600 it",
			file, mode.Perm()))
	}
	raw, err := parsePrivate(text, ask)
	if err != nil {
		return nil, &KeyError{file, err}
	}
	k, err := newKey(raw)
	if err != nil {
		return nil, &KeyError{file, err}
	}
	k.File = file
	return k, nil
}

// ReadPublicKey reads a public key: PEM, or a line as ssh-keygen writes it.
func ReadPublicKey(file string) (*PublicKey, error) {
	text, _, err := readSmall(file)
	if err != nil {
		return nil, err
	}
	p, err := parsePublic(text)
	if err != nil {
		return nil, &KeyError{file, err}
	}
	p.File = file
	return p, nil
}

// readSmall reads a key's file, which may be a pipe.
func readSmall(file string) ([]byte, os.FileMode, error) {
	f, err := reading.Open(file)
	if err != nil {
		return nil, 0, &KeyError{file, errors.Unwrap(err)}
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, 0, &KeyError{file, err}
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKey+1))
	if err == nil && len(text) > maxKey {
		err = fmt.Errorf("it has more than %d bytes", maxKey)
	}
	if err != nil {
		return nil, 0, &KeyError{file, err}
	}
	return text, st.Mode(), nil
}

func parsePrivate(text []byte, ask Passphrase) (any, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it holds no private key in PEM")
	}
	unlock := func(open func(pass []byte) (any, error)) (any, error) {
		pass, err := ask()
		if err != nil {
			return nil, err
		}
		defer clear(pass)
		return open(pass)
	}
	switch block.Type {
	case "PUBLIC KEY", "CERTIFICATE":
		return nil, fmt.Errorf("it holds a %s: want the private key", block.Type)
	case "ENCRYPTED PRIVATE KEY":
		return unlock(func(pass []byte) (any, error) {
			der, err := openPBES2(block.Bytes, pass)
			if err != nil {
				return nil, err
			}
			defer clear(der)
			return x509.ParsePKCS8PrivateKey(der)
		})
	case "ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY":
		return unlock(func(pass []byte) (any, error) {
			der, err := encrypted.Decrypt(block.Bytes, pass)
			if err != nil {
				return nil, errPassphrase
			}
			defer clear(der)
			return x509.ParsePKCS8PrivateKey(der)
		})
	}
	raw, err := ssh.ParseRawPrivateKey(text)
	var locked *ssh.PassphraseMissingError
	if !errors.As(err, &locked) {
		return raw, err
	}
	return unlock(func(pass []byte) (any, error) {
		raw, err := ssh.ParseRawPrivateKeyWithPassphrase(text, pass)
		if errors.Is(err, x509.IncorrectPasswordError) {
			err = errPassphrase
		}
		return raw, err
	})
}

var errPassphrase = errors.New("the passphrase is wrong")
