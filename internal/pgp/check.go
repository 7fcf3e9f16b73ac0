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
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

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

// verdicts reads signed once for all of the signatures: it may be a gigabyte that is
// being decompressed. The error is that of reading it.
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

// checkSignature returns the fingerprint of the signer. The error is
// ErrUnknownIssuer, errBad, or says in words why the signature does not count.
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
		return "", &reason{fmt.Sprintf("the key %s has expired: a newer kimg may carry its successor", keyName(sig))}
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
