package outdir

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/kimg/kimg/builder/attest"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/units"
)

// Signer is who signed a build.
type Signer struct {
	Key  string `json:"key"`  // the file of the public key
	Type string `json:"type"` // as attest.PublicKey has it
	ID   string `json:"id"`
}

// documents holds the SBOM, the provenance and its signatures against the
// manifest, the artifacts that it names, the lock, and the keys.
//
// A signature is worth as much as the chain that hangs on it: the key signs the provenance; that has the digests of
// all artifacts, of the SBOM, of the lock and of what the manifest says of the build. So each of these is checked,
// and what the manifest alone says is believed of nothing.
func (v *Verified) documents(ctx context.Context, root *os.Root, m *Manifest, l *spec.Lock, keys []*attest.PublicKey) {
	if len(m.Documents) == 0 {
		none := "the build has no " + attest.ProvenanceFile + ": an older kimg made it; a build writes it"
		if len(keys) > 0 {
			v.fault(attest.SignatureFile, "nothing is signed: %s", none)
		} else {
			v.Notes = append(v.Notes, none)
		}
		return
	}
	for _, name := range artifact.Documents() {
		v.Checked++
		v.document(root, m, name)
	}
	statement, ok := v.statement(root)
	if !ok {
		return // document has reported it
	}
	if l != nil {
		v.contents(m, l, statement)
	}
	v.signatures(ctx, root, statement, keys)
}

func (v *Verified) document(root *os.Root, m *Manifest, name string) {
	d := m.document(name)
	if d == nil {
		v.fault(name, "the manifest does not name it")
		return
	}
	b, ok := v.read(root, name, attest.MaxDocument)
	if sum := units.DigestOf(b); ok && sum != d.SHA256 {
		v.fault(name, "its content was changed: its sha256 is %s, and was %s", sum, d.SHA256)
	}
}

// statement reads the provenance. What is wrong with the file is reported by document.
func (v *Verified) statement(root *os.Root) ([]byte, bool) {
	info, err := root.Lstat(attest.ProvenanceFile)
	if err != nil || !info.Mode().IsRegular() || info.Size() > attest.MaxDocument {
		return nil, false
	}
	b, err := root.ReadFile(attest.ProvenanceFile)
	return b, err == nil
}

// contents holds what the provenance says against the manifest and the lock.
func (v *Verified) contents(m *Manifest, l *spec.Lock, statement []byte) {
	want, err := m.record(l, attest.Builder(""))
	if err != nil {
		v.fault(attest.ProvenanceFile, "%v", err)
		return
	}
	if d := m.document(attest.SBOMFile); d != nil {
		want = withSBOM(want, d.SHA256)
	}
	for _, wrong := range attest.Check(statement, want) {
		v.fault(attest.ProvenanceFile, "%s", wrong)
	}
}

// signatures finds who signed the provenance. A key that was given must be among them.
func (v *Verified) signatures(ctx context.Context, root *os.Root, statement []byte, keys []*attest.PublicKey) {
	if _, err := root.Lstat(attest.SignatureFile); err != nil {
		if len(keys) > 0 {
			v.fault(attest.SignatureFile, "the build is not signed: %s", reason(err))
		}
		return
	}
	v.Checked++
	bundle, ok := v.read(root, attest.SignatureFile, attest.MaxSignature)
	if !ok {
		return
	}
	s, err := attest.Verify(ctx, bundle, statement, keys)
	switch {
	case err != nil:
		v.fault(attest.SignatureFile, "%v", err)
	case len(keys) == 0:
		v.Notes = append(v.Notes,
			fmt.Sprintf("%s was not checked: it is said to be signed by %s; --key PUBKEY checks it",
				attest.SignatureFile, ids(s.Claimed)))
	case len(s.By) == 0:
		var asked []string
		for _, k := range keys {
			asked = append(asked, fmt.Sprintf("%s (%s)", k.File, k.ID))
		}
		v.fault(attest.SignatureFile, "it is not signed by %s: it is said to be signed by %s", strings.Join(asked,
			" or "), ids(s.Claimed))
	}
	for _, k := range s.By {
		v.SignedBy = append(v.SignedBy, Signer{k.File, k.Type, k.ID})
	}
}

// ids are key ids that somebody wrote, for users.
func ids(claimed []string) string {
	var l []string
	for _, id := range claimed {
		l = append(l, fmt.Sprintf("%.60s", cmp.Or(id, "a key without an id")))
	}
	if len(l) == 0 {
		return "nobody"
	}
	slices.Sort(l)
	l = slices.Compact(l)
	return strings.Join(l[:min(len(l), maxIDs)], ", ")
}

// maxIDs is how many signatures are named.
const maxIDs = 5

// Sign adds the signature of a key (nil: of none) to those of the statement in the directory. Signatures of the
// statement of an earlier build are removed: they would be reported as wrong from now on.
func (o *Dir) Sign(ctx context.Context, key *attest.Key, sink progress.Sink) error {
	statement, err := o.read(attest.ProvenanceFile, attest.MaxDocument)
	if err != nil {
		return err
	}
	bundle, err := o.read(attest.SignatureFile, attest.MaxSignature)
	if err != nil && !isAbsent(err) {
		return err
	}
	now := attest.Current(bundle, statement)
	if len(now) != len(bundle) && key == nil {
		progress.Warn(sink, "the signature of the earlier build was removed: --sign-key signs this one")
	}
	if key != nil {
		if now, err = attest.Sign(ctx, now, statement, key); err != nil {
			return err
		}
	}
	switch {
	case bytes.Equal(now, bundle):
		return nil
	case len(now) == 0:
		if err := os.Remove(o.Path(attest.SignatureFile)); err != nil {
			return fmt.Errorf("remove the old signature: %w", err)
		}
		return nil
	}
	if key != nil {
		progress.Say(sink, fmt.Sprintf("signed %s with the %s key %s", attest.ProvenanceFile, key.Type, key.ID))
	}
	return o.Write(attest.SignatureFile, now)
}

// SignUnchanged signs what is in the directory, without building. What is not as its build left it is not signed:
// the faults are in what is returned, and nothing is written.
func (o *Dir) SignUnchanged(ctx context.Context, key *attest.Key, sink progress.Sink) (*Verified, error) {
	v, err := Verify(ctx, o.dir, nil)
	if err != nil || len(v.Faults) > 0 {
		return v, err
	}
	if _, err := os.Lstat(o.Path(attest.ProvenanceFile)); isAbsent(err) {
		return nil, fmt.Errorf("sign %s: it has no %s: build it again, which takes a moment where nothing changed",
			o.dir, attest.ProvenanceFile)
	}
	return v, o.Sign(ctx, key, sink)
}
