package builder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kimg/kimg/builder/attest"
	"github.com/kimg/kimg/internal/progress"
)

// sign adds the signature of the session's key, where it has one, to those of
// the statement in an out directory. Signatures of the statement of an earlier
// build are taken away: they would be told as wrong from now on.
func (s *session) sign(ctx context.Context, out *outDir) error {
	statement, err := out.read(attest.ProvenanceFile, attest.MaxDocument)
	if err != nil {
		return err
	}
	bundle, err := out.read(attest.SignatureFile, attest.MaxSignature)
	if err != nil && !isAbsent(err) {
		return err
	}
	now := attest.Current(bundle, statement)
	if len(now) != len(bundle) && s.Sign == nil {
		progress.Warn(s.Sink, "the signature of the earlier build was taken away: --sign-key signs this one")
	}
	if s.Sign != nil {
		if now, err = attest.Sign(ctx, now, statement, s.Sign); err != nil {
			return err
		}
	}
	switch {
	case bytes.Equal(now, bundle):
		return nil
	case len(now) == 0:
		if err := os.Remove(out.path(attest.SignatureFile)); err != nil {
			return fmt.Errorf("remove the old signature: %w", err)
		}
		return nil
	}
	if s.Sign != nil {
		progress.Say(s.Sink, fmt.Sprintf("signed %s with the %s key %s", attest.ProvenanceFile, s.Sign.Type, s.Sign.ID))
	}
	return out.write(attest.SignatureFile, now)
}

// Sign signs the build in a directory with the environment's key, without
// building. What is not as its build left it is not signed: the faults are told,
// and nothing is written.
func Sign(ctx context.Context, env Env, dir string) (_ *Verified, err error) {
	spec := Default()
	spec.Out = dir
	s, done, err := openLocked(ctx, env, spec)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	v, err := Verify(ctx, dir, nil)
	if err != nil || len(v.Faults) > 0 {
		return v, err
	}
	if _, err := os.Lstat(filepath.Join(dir, attest.ProvenanceFile)); isAbsent(err) {
		return nil, fmt.Errorf("sign %s: it has no %s: build it again, which takes a moment where nothing changed", dir, attest.ProvenanceFile)
	}
	out, err := s.outDir()
	if err != nil {
		return nil, err
	}
	return v, s.sign(ctx, out)
}
