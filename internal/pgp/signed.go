package pgp

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// ErrUnvouched is what the errors of this package are (errors.Is) where the content is not known to be wrong but no
// valid key signed it: it is not signed, or by keys that are not in the keyring, that have expired, or with a
// digest that can be forged. All others report something wrong: a signature that does not match, that is cut off,
// or of a revoked key.
var ErrUnvouched = errors.New("not signed by a key that may sign it")

// reason is an error that is ErrUnvouched, with words of its own.
type reason struct{ text string }

func (r *reason) Error() string        { return r.text }
func (r *reason) Is(target error) bool { return target == ErrUnvouched }

const (
	beginSigned    = "-----BEGIN PGP SIGNED MESSAGE-----"
	beginSignature = "-----BEGIN PGP SIGNATURE-----"
)

// OpenClear returns the text of a clear-signed document and the fingerprints of the primary keys whose signatures
// of it are good: at least one. Signatures of keys that are not in the keyring do not count; a bad one of a key
// that is makes the document invalid. Keys and signatures must be valid at the time at. The error is a reason in
// words. RFC 9580, section 7.
func OpenClear(data []byte, k *Keyring, at time.Time) (text []byte, signedBy []string, err error) {
	block, err := decodeClear(data)
	if err != nil {
		return nil, nil, err
	}
	sigs, err := signatures(block.ArmoredSignature.Body)
	if err != nil {
		return nil, nil, err
	}
	v := verifier{keys: k, now: at, when: func(*packet.Signature) time.Time { return at }}
	signedBy, err = v.check(sigs, bytes.NewReader(block.Bytes))
	if err != nil {
		return nil, nil, err
	}
	return block.Plaintext, signedBy, nil
}

// TextOf returns the text of a document that may be clear-signed without checking its signature.
func TextOf(data []byte) ([]byte, error) {
	if !bytes.HasPrefix(data, []byte(beginSigned)) {
		return data, nil
	}
	block, err := decodeClear(data)
	if err != nil {
		return nil, err
	}
	return block.Plaintext, nil
}

func decodeClear(data []byte) (*clearsign.Block, error) {
	if !bytes.HasPrefix(data, []byte(beginSigned)) {
		return nil, &reason{"it does not begin as a clear-signed document" + looksLike(data)}
	}
	block, rest := clearsign.Decode(data)
	if block == nil {
		return nil, errors.New("its signature is cut off or cannot be read")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("there is text behind its signature, which is not signed")
	}
	return block, nil
}

// VerifyDetached reads signed to its end and returns the fingerprints of the primary keys whose detached signatures
// of it are good: at least one. The signature may be armored or not. Unlike in OpenClear each key must have been
// valid when the signature says that it was made: what is signed so is published once and does not change, so a
// release stays good after its maker's key has expired. (A thief of an expired key can make older signatures with
// it; a key that is known to be stolen is revoked, and that counts for all time.) A signature from after now is
// refused. An error of reading signed is returned as it is.
func VerifyDetached(signed io.Reader, signature []byte, k *Keyring, now time.Time) (signedBy []string, err error) {
	body := io.Reader(bytes.NewReader(signature))
	if !IsSignature(signature) {
		return nil, &reason{"its signature does not begin as one" + looksLike(signature)}
	}
	if !looksBinary(signature) {
		block, err := armor.Decode(body)
		if err != nil {
			return nil, fmt.Errorf("its signature cannot be read: %w", err)
		}
		body = block.Body
	}
	sigs, err := signatures(body)
	if err != nil {
		return nil, err
	}
	v := verifier{keys: k, now: now, when: k.whenMade}
	return v.check(sigs, signed)
}

// whenMade is when a signature was made or, where that is later, when its key was
// last signed by itself: an owner who renews a key leaves only the newest of these
// signatures in it, and before that one the key would not be valid at all.
func (k *Keyring) whenMade(sig *packet.Signature) time.Time {
	at := sig.CreationTime
	for _, key := range k.Keys.KeysById(*sig.IssuerKeyId) {
		primary, _ := key.Entity.PrimarySelfSignature()
		for _, self := range []*packet.Signature{primary, key.SelfSignature} {
			if self != nil && self.CreationTime.After(at) {
				at = self.CreationTime
			}
		}
	}
	return at
}

// IsSignature reports whether b begins as a detached signature, armored or not: a server may answer with a page.
func IsSignature(b []byte) bool {
	return looksBinary(b) || bytes.HasPrefix(bytes.TrimSpace(b), []byte(beginSignature))
}

// looksBinary reports whether b begins with a signature packet, its tag in the old or new form. RFC 9580, 4.2.
func looksBinary(b []byte) bool {
	const tagSignature = 2
	return len(b) > 0 && (b[0]&0xfc == 0x80|tagSignature<<2 || b[0] == 0xc0|tagSignature)
}

// looksLike quotes the start of what was downloaded, for the user to recognise it.
func looksLike(data []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(data), []byte("\n"))
	if len(line) == 0 {
		return " (it is empty)"
	}
	return fmt.Sprintf(" (it begins with %.60q)", line)
}

// maxSignatures bounds the work that a hostile document makes; Debian's carry at most four.
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

// strongDigests are the hash algorithms that a signature may use. SHA-1 and what is older can be forged.
var strongDigests = []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512}

// errBad marks a signature, of a key that is known, that does not match.
var errBad = errors.New("bad signature")

type verifier struct {
	keys *Keyring
	now  time.Time                         // no signature may be later
	when func(*packet.Signature) time.Time // the time at which the key of a signature must be valid
}

type verdict struct {
	sig    *packet.Signature
	signer string
	err    error
}

// check checks the signatures of what is signed and returns who made the good ones: at least one.
func (v *verifier) check(sigs []*packet.Signature, signed io.Reader) (signedBy []string, err error) {
	verdicts, err := v.verdicts(sigs, signed)
	if err != nil {
		return nil, err
	}
	var unknown, reasons []string
	wrong := false
	for _, one := range verdicts {
		switch {
		case one.err == nil:
			signedBy = append(signedBy, one.signer)
		case errors.Is(one.err, pgperrors.ErrUnknownIssuer):
			unknown = append(unknown, keyName(one.sig))
		case errors.Is(one.err, errBad):
			return nil, fmt.Errorf("the signature of key %s does not match its text", keyName(one.sig))
		default:
			reasons = append(reasons, one.err.Error())
			wrong = wrong || !errors.Is(one.err, ErrUnvouched)
		}
	}
	if len(signedBy) > 0 {
		return signedBy, nil
	}
	if len(unknown) > 0 {
		reasons = append(reasons, fmt.Sprintf("signed by key %s, which may not sign it; these may: %s",
			strings.Join(unknown, ", "), strings.Join(v.keys.Fingerprints(), ", ")))
	}
	if wrong {
		return nil, errors.New(strings.Join(reasons, "; "))
	}
	return nil, &reason{strings.Join(reasons, "; ")}
}

// verdicts reads signed, which may be a gigabyte, once for all of the signatures. The error is that of reading it.
func (v *verifier) verdicts(sigs []*packet.Signature, signed io.Reader) ([]verdict, error) {
	verdicts := make([]verdict, len(sigs))
	var sinks []io.Writer
	var pipes []*io.PipeWriter
	var wg sync.WaitGroup
	for i, sig := range sigs {
		verdicts[i].sig = sig
		if verdicts[i].err = v.admissible(sig); verdicts[i].err != nil {
			continue
		}
		r, w := io.Pipe()
		sinks, pipes = append(sinks, w), append(pipes, w)
		wg.Go(func() {
			verdicts[i].signer, verdicts[i].err = v.checkSignature(sig, r)
			_, _ = io.Copy(io.Discard, r) // an early end must not block the others
		})
	}
	if len(sinks) == 0 {
		return verdicts, nil
	}
	_, err := io.Copy(io.MultiWriter(sinks...), signed)
	for _, w := range pipes {
		_ = w.CloseWithError(err) // never fails
	}
	wg.Wait()
	return verdicts, err
}

// admissible refuses a signature that cannot count whatever is signed.
func (v *verifier) admissible(sig *packet.Signature) error {
	if len(v.keys.Keys.KeysById(*sig.IssuerKeyId)) == 0 {
		return pgperrors.ErrUnknownIssuer
	}
	if !slices.Contains(strongDigests, sig.Hash) {
		return &reason{fmt.Sprintf("the signature of key %s uses the digest %v, which can be forged",
			keyName(sig), sig.Hash)}
	}
	if sig.CreationTime.After(v.now) {
		return fmt.Errorf("the signature of key %s was made at %s, later than now (%s): check this machine's clock",
			keyName(sig), sig.CreationTime.UTC().Format(time.RFC3339), v.now.UTC().Format(time.RFC3339))
	}
	return nil
}

// checkSignature returns the signer's fingerprint, or ErrUnknownIssuer, errBad, or why the signature does not count.
func (v *verifier) checkSignature(sig *packet.Signature, signed io.Reader) (string, error) {
	var one bytes.Buffer
	if err := sig.Serialize(&one); err != nil {
		return "", fmt.Errorf("the signature of key %s cannot be read: %w", keyName(sig), err)
	}
	signer, err := openpgp.CheckDetachedSignature(v.keys.Keys, signed, &one,
		&packet.Config{Time: func() time.Time { return v.when(sig) }})
	switch {
	case err == nil:
		return fingerprint(signer), nil
	case errors.Is(err, pgperrors.ErrKeyExpired):
		return "", &reason{fmt.Sprintf("the key %s has expired: look for its successor", keyName(sig))}
	case errors.Is(err, pgperrors.ErrKeyRevoked):
		return "", fmt.Errorf("the key %s was revoked by its owner", keyName(sig))
	case errors.Is(err, pgperrors.ErrSignatureExpired):
		return "", &reason{fmt.Sprintf("the signature of key %s has expired", keyName(sig))}
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
