// Package reading has readers that end sooner than what they read: with a context,
// or at a bound. It must not know what is read.
package reading

import (
	"context"
	"io"
)

// Until reads r until ctx ends; the error is then the context's cause.
func Until(ctx context.Context, r io.Reader) io.Reader { return until{ctx, r} }

type until struct {
	ctx context.Context
	r   io.Reader
}

func (u until) Read(p []byte) (int, error) {
	if err := context.Cause(u.ctx); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// Bounded reads r and gives tooMuch where more than left bytes come, for what is small only while it is packed.
func Bounded(r io.Reader, left int64, tooMuch error) io.Reader {
	return &bounded{r, left, tooMuch}
}

type bounded struct {
	r       io.Reader
	left    int64
	tooMuch error
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, b.tooMuch
	}
	return n, err
}
