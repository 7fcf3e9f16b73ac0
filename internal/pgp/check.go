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

// strongDigests are the hash algorithms that a signature may use. SHA-1 and what
// is older can be forged.
var strongDigests = []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512}

// errBad marks a signature, of a key that is known, that does not match.
var errBad = errors.New("bad signature")

// judge says as of when the key of a signature counts.
type judge func(*packet.Signature) time.Time

func asOf(t time.Time) judge { return func(*packet.Signature) time.Time { return t } }

// verdict is what one signature came to.
type verdict struct {
	sig    *packet.Signature
	signer string
	err    error
}

// check holds the signatures against what is signed and returns who made the
// good ones: at least one.
func check(sigs []*packet.Signature, signed io.Reader, k *Keyring, now time.Time, when judge) (signedBy []string, err error) {
	verdicts, err := verdictsOf(sigs, signed, k, now, when)
	if err != nil {
		return nil, err
	}
	var unknown, reasons []string
	wrong := false
	for _, v := range verdicts {
		switch {
		case v.err == nil:
			signedBy = append(signedBy, v.signer)
		case errors.Is(v.err, pgperrors.ErrUnknownIssuer):
			unknown = append(unknown, keyName(v.sig))
		case errors.Is(v.err, errBad):
			return nil, fmt.Errorf("the signature of key %s does not match its text", keyName(v.sig))
		default:
			reasons = append(reasons, v.err.Error())
			wrong = wrong || !errors.Is(v.err, ErrUnvouched)
		}
	}
	if len(signedBy) > 0 {
		return signedBy, nil
	}
	if len(unknown) > 0 {
		reasons = append(reasons, "signed by key "+strings.Join(unknown, ", ")+", which may not sign it; these may: "+strings.Join(k.Fingerprints(), ", "))
	}
	if wrong {
		return nil, errors.New(strings.Join(reasons, "; "))
	}
	return nil, &reason{strings.Join(reasons, "; ")}
}

// verdictsOf reads signed once for all of the signatures: it may be a gigabyte
// that is being decompressed. The error is that of reading it.
func verdictsOf(sigs []*packet.Signature, signed io.Reader, k *Keyring, now time.Time, when judge) ([]verdict, error) {
	verdicts := make([]verdict, len(sigs))
	var sinks []io.Writer
	var pipes []*io.PipeWriter
	var wg sync.WaitGroup
	for i, sig := range sigs {
		verdicts[i].sig = sig
		if verdicts[i].err = admissible(sig, k, now); verdicts[i].err != nil {
			continue
		}
		r, w := io.Pipe()
		sinks, pipes = append(sinks, w), append(pipes, w)
		wg.Go(func() {
			verdicts[i].signer, verdicts[i].err = checkSignature(sig, r, k, when(sig))
			_, _ = io.Copy(io.Discard, r) // what an early end left must not block the others
		})
	}
	if len(sinks) == 0 {
		return verdicts, nil
	}
	_, err := io.Copy(io.MultiWriter(sinks...), signed)
	for _, w := range pipes {
		_ = w.CloseWithError(err) // gives no error
	}
	wg.Wait()
	return verdicts, err
}

// admissible says of a signature whether it is worth reading what is signed.
func admissible(sig *packet.Signature, k *Keyring, now time.Time) error {
	if len(k.Keys.KeysById(*sig.IssuerKeyId)) == 0 {
		return pgperrors.ErrUnknownIssuer
	}
	if !slices.Contains(strongDigests, sig.Hash) {
		return &reason{fmt.Sprintf("the signature of key %s uses the digest %v, which can be forged", keyName(sig), sig.Hash)}
	}
	if sig.CreationTime.After(now) {
		return fmt.Errorf("the signature of key %s was made at %s, later than now (%s): check this machine's clock",
			keyName(sig), sig.CreationTime.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// checkSignature returns the fingerprint of the signer. The error is
// ErrUnknownIssuer, errBad, or says in words why the signature does not count.
func checkSignature(sig *packet.Signature, signed io.Reader, k *Keyring, at time.Time) (string, error) {
	var one bytes.Buffer
	if err := sig.Serialize(&one); err != nil {
		return "", fmt.Errorf("the signature of key %s cannot be read: %w", keyName(sig), err)
	}
	signer, err := openpgp.CheckDetachedSignature(k.Keys, signed, &one,
		&packet.Config{Time: func() time.Time { return at }})
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
