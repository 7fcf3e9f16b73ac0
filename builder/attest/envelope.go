package attest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// payloadType is what a DSSE envelope says of an in-toto statement in it.
const payloadType = "application/vnd.in-toto+json"

// line is a line of a bundle (in-toto attestation, spec/v1/bundle.md). Those that are other tools' are kept.
type line struct {
	text     []byte         // without its end
	envelope *dsse.Envelope // nil: it is not one
	payload  []byte         // of the envelope
}

func readBundle(bundle []byte) (lines []line) {
	for text := range bytes.Lines(bundle) {
		l := line{text: bytes.TrimRight(text, "\r\n")}
		if len(l.text) == 0 {
			continue
		}
		if e, payload, err := readEnvelope(l.text); err == nil {
			l.envelope, l.payload = e, payload
		}
		lines = append(lines, l)
	}
	return lines
}

// readEnvelope reads an envelope, but only in the spelling that writing it gives.
// encoding/json accepts field names in any case, fields that occur twice, and unused
// bits in base64; other readers might understand such an envelope in another way.
func readEnvelope(text []byte) (*dsse.Envelope, []byte, error) {
	var e dsse.Envelope
	if err := json.Unmarshal(text, &e); err != nil {
		return nil, nil, err
	}
	payload, err := e.DecodeB64Payload()
	if err != nil {
		return nil, nil, err
	}
	plain := dsse.Envelope{
		PayloadType: e.PayloadType, Payload: base64.StdEncoding.EncodeToString(payload),
		Signatures: slices.Clone(e.Signatures),
	}
	for i, s := range plain.Signatures {
		sig, err := base64.StdEncoding.DecodeString(s.Sig)
		if err != nil {
			return nil, nil, err
		}
		plain.Signatures[i].Sig = base64.StdEncoding.EncodeToString(sig)
	}
	again, err := json.Marshal(plain)
	if err != nil {
		return nil, nil, err
	}
	var is, should any
	if err := errors.Join(json.Unmarshal(text, &is), json.Unmarshal(again, &should)); err != nil {
		return nil, nil, err
	}
	if !reflect.DeepEqual(is, should) || tokens(text) != tokens(again) { // a field that occurs twice
		return nil, nil, errors.New("not spelled as an envelope")
	}
	return &e, payload, nil
}

func tokens(text []byte) (n int) {
	for dec := json.NewDecoder(bytes.NewReader(text)); ; n++ {
		if _, err := dec.Token(); err != nil {
			return n
		}
	}
}

func (l line) isStatement() bool { return l.envelope != nil && l.envelope.PayloadType == payloadType }

func (l line) holds(statement []byte) bool {
	return l.isStatement() && bytes.Equal(l.payload, statement)
}

func writeBundle(lines []line) []byte {
	var out bytes.Buffer
	for _, l := range lines {
		out.Write(l.text)
		out.WriteByte('\n')
	}
	return out.Bytes()
}

// Current is a bundle without envelopes around kimg's statements of other builds; empty when nothing is left.
func Current(bundle, statement []byte) []byte {
	lines := readBundle(bundle)
	kept := slices.DeleteFunc(slices.Clone(lines), func(l line) bool {
		return l.isStatement() && !bytes.Equal(l.payload, statement) && BuilderOf(l.payload) != ""
	})
	if len(kept) == len(lines) {
		return bundle
	}
	return writeBundle(kept)
}

// Sign adds a key's signature of the statement to a bundle, which may be empty. Signatures of the same statement by
// other keys stay; all of them are in one envelope, since some programs read only one. The same key signs the same
// statement in the same bytes.
func Sign(ctx context.Context, bundle, statement []byte, key *Key) ([]byte, error) {
	fresh, err := dsse.NewEnvelopeSigner(key)
	if err != nil {
		return nil, fmt.Errorf("sign provenance: %w", err)
	}
	signed, err := fresh.SignPayload(ctx, payloadType, statement)
	if err != nil {
		return nil, fmt.Errorf("sign provenance: %w", err)
	}
	lines := readBundle(Current(bundle, statement))
	at := slices.IndexFunc(lines, func(l line) bool { return l.holds(statement) })
	if at < 0 {
		at, lines = len(lines), append(lines, line{envelope: &dsse.Envelope{}})
	}
	for _, s := range lines[at].envelope.Signatures {
		if s.KeyID != key.ID {
			signed.Signatures = append(signed.Signatures, s)
		}
	}
	slices.SortStableFunc(signed.Signatures, func(a, b dsse.Signature) int { return strings.Compare(a.KeyID, b.KeyID) })
	if lines[at].text, err = json.Marshal(signed); err != nil {
		return nil, fmt.Errorf("sign provenance: %w", err)
	}
	return writeBundle(lines), nil
}

// Signatures are the signatures of a statement in a bundle.
type Signatures struct {
	By      []*PublicKey // those of the given keys that signed it
	Claimed []string     // the key ids in all signatures, unverified; "" where one has none
}

// signedBy reports whether one of the envelope's signatures is a key's. The key id in a signature is an unsigned
// hint (DSSE, protocol.md), and other tools form it in other ways: the key is tried whatever the id says.
func (l line) signedBy(ctx context.Context, k *PublicKey) bool {
	v, err := dsse.NewEnvelopeVerifier(k)
	if err != nil {
		return false
	}
	for _, sig := range l.envelope.Signatures {
		sig.KeyID = ""
		one := *l.envelope
		one.Signatures = []dsse.Signature{sig}
		if _, err := v.Verify(ctx, &one); err == nil {
			return true
		}
	}
	return false
}

// ErrOther is a bundle without an envelope around the statement.
var ErrOther = errors.New("it holds no signature of this build's " + ProvenanceFile)

// Verify finds which of the keys signed the statement, maybe none. A bundle about something else is ErrOther.
func Verify(ctx context.Context, bundle, statement []byte, keys []*PublicKey) (Signatures, error) {
	var s Signatures
	if len(bundle) > MaxSignature {
		return s, fmt.Errorf("it has more than %d bytes", MaxSignature)
	}
	found := false
	for _, l := range readBundle(bundle) {
		if !l.holds(statement) {
			continue
		}
		found = true
		for _, sig := range l.envelope.Signatures {
			s.Claimed = append(s.Claimed, sig.KeyID)
		}
		for _, k := range keys {
			known := slices.ContainsFunc(s.By, func(by *PublicKey) bool { return by.ID == k.ID })
			if !known && l.signedBy(ctx, k) {
				s.By = append(s.By, k)
			}
		}
	}
	if !found {
		return s, ErrOther
	}
	return s, nil
}
