package outdir

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"github.com/kimg/kimg/builder/attest"
	"github.com/kimg/kimg/internal/progress"
)

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
