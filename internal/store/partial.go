package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/units"
)

// Partial is an entry on its way in, known by the digest it will have. What was written to it stays when it is
// closed, also by a crash, and is there for who opens it next. Only one Partial of a digest is open at any time, on
// the whole machine.
type Partial struct {
	s    *Store
	f    *os.File // nil once committed
	want units.Digest
	sum  hash.Hash
	size int64
}

// MismatchError tells that what was written is not what the digest names.
type MismatchError struct{ Want, Got units.Digest }

func (e *MismatchError) Error() string {
	return fmt.Sprintf("the content's sha256 is %s, not %s", e.Got, e.Want)
}

// Partial opens what there is of d, when nobody else has it open: the caller asks Has again.
func (s *Store) Partial(ctx context.Context, d units.Digest) (*Partial, error) {
	f, err := filelock.Wait(ctx, filepath.Join(s.dir, "partial", string(d)))
	if err != nil {
		return nil, fmt.Errorf("open partial entry %s: %w", d.Short(), err)
	}
	p := &Partial{s: s, f: f, want: d, sum: sha256.New()}
	if p.size, err = io.Copy(p.sum, f); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("read partial entry %s: %w", d.Short(), err)
	}
	return p, nil
}

// Size is how many bytes there are.
func (p *Partial) Size() int64 { return p.size }

// Write appends.
func (p *Partial) Write(b []byte) (int, error) {
	n, err := p.f.Write(b)
	p.sum.Write(b[:n])
	p.size += int64(n)
	return n, err
}

// Reset throws away what there is.
func (p *Partial) Reset() error {
	if err := p.f.Truncate(0); err != nil {
		return fmt.Errorf("empty partial entry %s: %w", p.want.Short(), err)
	}
	if _, err := p.f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("empty partial entry %s: %w", p.want.Short(), err)
	}
	p.sum.Reset()
	p.size = 0
	return nil
}

// Commit makes the content an entry. Another's is thrown away and a *MismatchError: the Partial is empty then.
func (p *Partial) Commit() error {
	if got := units.DigestSum(p.sum); got != p.want {
		return errors.Join(&MismatchError{Want: p.want, Got: got}, p.Reset())
	}
	if err := p.s.adopt(p.f, p.want); err != nil {
		return fmt.Errorf("commit store entry %s: %w", p.want.Short(), err)
	}
	p.f = nil
	return nil
}

// Close lets others have it. An empty one leaves no file behind.
func (p *Partial) Close() error {
	if p.f == nil {
		return nil
	}
	if p.size == 0 {
		_ = os.Remove(p.f.Name())
	}
	err := p.f.Close()
	p.f = nil
	return err
}
