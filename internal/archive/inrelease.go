package archive

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// UntrustedError tells that an archive's index was refused: nothing that it says
// may be used.
type UntrustedError struct {
	What string // "the InRelease of trixie from http://..."
	Why  string
}

func (e *UntrustedError) Error() string { return fmt.Sprintf("%s is not trusted: %s", e.What, e.Why) }

const beginSigned = "-----BEGIN PGP SIGNED MESSAGE-----"

// strongDigests are the hash algorithms that a signature may use. SHA-1 and what
// is older can be forged.
var strongDigests = []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512}

// openSigned returns the text of a clear-signed document and the fingerprints of
// the primary keys whose signatures of it are good: at least one. Signatures of
// keys that are not in the keyring do not count; a bad one of a key that is spoils
// the document. Keys and signatures are judged as of the time at. The error is a
// reason for UntrustedError.
func openSigned(data []byte, k *Keyring, at time.Time) (text []byte, signedBy []string, err error) {
	if !bytes.HasPrefix(data, []byte(beginSigned)) {
		return nil, nil, errors.New("it does not begin as a clear-signed document" + looksLike(data))
	}
	block, rest := clearsign.Decode(data)
	if block == nil {
		return nil, nil, errors.New("its signature is cut off or cannot be read")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, nil, errors.New("there is text behind its signature, which no one has signed")
	}
	sigs, err := signatures(block.ArmoredSignature.Body)
	if err != nil {
		return nil, nil, err
	}
	var unknown, reasons []string
	for _, sig := range sigs {
		signer, err := checkSignature(sig, block.Bytes, k, at)
		switch {
		case errors.Is(err, pgperrors.ErrUnknownIssuer):
			unknown = append(unknown, keyName(sig))
		case errors.Is(err, errBad):
			return nil, nil, fmt.Errorf("the signature of key %s does not match its text", keyName(sig))
		case err != nil:
			reasons = append(reasons, err.Error())
		default:
			signedBy = append(signedBy, signer)
		}
	}
	if len(signedBy) > 0 {
		return block.Plaintext, signedBy, nil
	}
	if len(unknown) > 0 {
		reasons = append(reasons, "signed by key "+strings.Join(unknown, ", ")+", which may not sign it; these may: "+strings.Join(k.Fingerprints(), ", "))
	}
	return nil, nil, errors.New(strings.Join(reasons, "; "))
}

// looksLike quotes the start of what came, for a person to recognise.
func looksLike(data []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(data), []byte("\n"))
	if len(line) == 0 {
		return " (it is empty)"
	}
	return fmt.Sprintf(" (it begins with %.60q)", line)
}

// maxSignatures bounds the work that a hostile document makes; Debian's carry
// at most four.
const maxSignatures = 16

func signatures(r io.Reader) ([]*packet.Signature, error) {
	var sigs []*packet.Signature
	packets := packet.NewReader(r)
	for {
		p, err := packets.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("its signature cannot be read: %w", err)
		}
		sig, ok := p.(*packet.Signature)
		if !ok || sig.IssuerKeyId == nil {
			return nil, errors.New("its signature block holds something that is not a signature")
		}
		if sigs = append(sigs, sig); len(sigs) > maxSignatures {
			return nil, fmt.Errorf("it has more than %d signatures", maxSignatures)
		}
	}
	if len(sigs) == 0 {
		return nil, errors.New("its signature block is empty")
	}
	return sigs, nil
}

var errBad = errors.New("bad signature")

// checkSignature returns the fingerprint of the signer. The error is
// ErrUnknownIssuer, errBad, or says in words why the signature does not count.
func checkSignature(sig *packet.Signature, signed []byte, k *Keyring, at time.Time) (string, error) {
	if len(k.keys.KeysById(*sig.IssuerKeyId)) == 0 {
		return "", pgperrors.ErrUnknownIssuer
	}
	if !slices.Contains(strongDigests, sig.Hash) {
		return "", fmt.Errorf("the signature of key %s uses the digest %v, which can be forged", keyName(sig), sig.Hash)
	}
	if sig.CreationTime.After(at) {
		return "", fmt.Errorf("the signature of key %s was made at %s, later than now (%s): check this machine's clock",
			keyName(sig), sig.CreationTime.UTC().Format(time.RFC3339), at.UTC().Format(time.RFC3339))
	}
	var one bytes.Buffer
	if err := sig.Serialize(&one); err != nil {
		return "", fmt.Errorf("the signature of key %s cannot be read: %w", keyName(sig), err)
	}
	signer, err := openpgp.CheckDetachedSignature(k.keys, bytes.NewReader(signed), &one,
		&packet.Config{Time: func() time.Time { return at }})
	switch {
	case err == nil:
		return fingerprint(signer), nil
	case errors.Is(err, pgperrors.ErrKeyExpired):
		return "", fmt.Errorf("the key %s has expired: a newer kimg may carry its successor", keyName(sig))
	case errors.Is(err, pgperrors.ErrKeyRevoked):
		return "", fmt.Errorf("the key %s was revoked by its owner", keyName(sig))
	case errors.Is(err, pgperrors.ErrSignatureExpired):
		return "", fmt.Errorf("the signature of key %s has expired", keyName(sig))
	case errors.Is(err, pgperrors.ErrUnknownIssuer):
		return "", fmt.Errorf("the key %s may not make signatures", keyName(sig))
	}
	return "", errBad
}

// keyName names the key that a signature says it is by.
func keyName(sig *packet.Signature) string {
	if len(sig.IssuerFingerprint) > 0 {
		return fmt.Sprintf("%X", sig.IssuerFingerprint)
	}
	return fmt.Sprintf("%016X", *sig.IssuerKeyId)
}
