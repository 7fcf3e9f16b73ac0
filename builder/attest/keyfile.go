package attest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/kimg/kimg/internal/reading"
	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	"golang.org/x/crypto/ssh"
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

// crypto/x509 does not read encrypted PKCS #8 keys. What follows reads those that openssl
// genpkey and ssh-keygen -m PKCS8 write: PBES2 with PBKDF2 and AES-CBC (RFC 8018).

var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
)

// prfs are the hashes below PBKDF2's HMAC, by their object identifiers.
var prfs = map[string]func() hash.Hash{
	"1.2.840.113549.2.7":  sha1.New, // the default
	"1.2.840.113549.2.9":  sha256.New,
	"1.2.840.113549.2.10": sha512.New384,
	"1.2.840.113549.2.11": sha512.New,
}

// ciphers are the lengths of AES keys in CBC mode, in bytes.
var ciphers = map[string]int{
	"2.16.840.1.101.3.4.1.2":  16,
	"2.16.840.1.101.3.4.1.22": 24,
	"2.16.840.1.101.3.4.1.42": 32,
}

// maxIterations bounds the work that a key's file may cause: openssl's default is 2048.
const maxIterations = 10_000_000

type encryptedKey struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

type pbes2 struct {
	KDF, Cipher pkix.AlgorithmIdentifier
}

type pbkdf2Params struct {
	Salt       []byte
	Iterations int
	KeyLength  int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
}

const advice = "openssl pkcs8 -topk8 -v2 aes256 writes it anew"

// openPBES2 decrypts an EncryptedPrivateKeyInfo to a PrivateKeyInfo.
func openPBES2(der, pass []byte) ([]byte, error) {
	var k encryptedKey
	var p pbes2
	var kdf pbkdf2Params
	var iv []byte
	if err := unmarshal(der, &k); err != nil {
		return nil, err
	}
	if !k.Algorithm.Algorithm.Equal(oidPBES2) {
		return nil, fmt.Errorf("it is encrypted in a way that kimg does not know (%s): %s",
			k.Algorithm.Algorithm, advice)
	}
	if err := unmarshal(k.Algorithm.Parameters.FullBytes, &p); err != nil {
		return nil, err
	}
	size := ciphers[p.Cipher.Algorithm.String()]
	if size == 0 || !p.KDF.Algorithm.Equal(oidPBKDF2) {
		return nil, fmt.Errorf("it is encrypted with %s and %s, which kimg does not know: %s",
			p.KDF.Algorithm, p.Cipher.Algorithm, advice)
	}
	err := errors.Join(unmarshal(p.KDF.Parameters.FullBytes, &kdf), unmarshal(p.Cipher.Parameters.FullBytes, &iv))
	if err != nil {
		return nil, err
	}
	prf := sha1.New
	if kdf.PRF.Algorithm != nil {
		prf = prfs[kdf.PRF.Algorithm.String()]
	}
	if prf == nil || kdf.Iterations < 1 || kdf.Iterations > maxIterations || len(iv) != aes.BlockSize ||
		len(k.Data) == 0 || len(k.Data)%aes.BlockSize != 0 || kdf.KeyLength != 0 && kdf.KeyLength != size {
		return nil, errors.New("the parameters of its encryption are invalid")
	}
	key, err := pbkdf2.Key(prf, string(pass), kdf.Salt, kdf.Iterations, size)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(k.Data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, k.Data)
	pad := plain[len(plain)-1] // so many bytes of this value (RFC 8018, 6.1.1)
	if pad < 1 || pad > aes.BlockSize || !bytes.HasSuffix(plain, bytes.Repeat([]byte{pad}, int(pad))) {
		return nil, errPassphrase
	}
	plain = plain[:len(plain)-int(pad)]
	var any asn1.RawValue // one in 256 wrong passphrases gives what looks like padding
	if err := unmarshal(plain, &any); err != nil {
		return nil, errPassphrase
	}
	return plain, nil
}

func unmarshal(der []byte, to any) error {
	rest, err := asn1.Unmarshal(der, to)
	if err == nil && len(rest) > 0 {
		err = errors.New("more data follows it")
	}
	if err != nil {
		return fmt.Errorf("it is not an encrypted key: %w", err)
	}
	return nil
}
