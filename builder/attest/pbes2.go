package attest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"
)

// crypto/x509 does not read encrypted PKCS #8 keys. This file reads those that openssl
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

// maxIterations bounds the work that a key's file may cause: openssl's default is 2048,
// and a hundred times as many are recommended.
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
