package reading

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestBounded(t *testing.T) {
	tooMuch := errors.New("too much")
	for n, ok := range map[int]bool{9: true, 10: true, 11: false} {
		_, err := io.Copy(io.Discard, Bounded(bytes.NewReader(make([]byte, n)), 10, tooMuch))
		if (err == nil) != ok || !ok && err != tooMuch {
			t.Errorf("%d bytes of 10: %v", n, err)
		}
	}
}

func TestUntil(t *testing.T) {
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	r := Until(ctx, strings.NewReader("text"))
	if _, err := io.ReadFull(r, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	cancel(why)
	if n, err := r.Read(make([]byte, 2)); n != 0 || err != why {
		t.Errorf("after the end: %d, %v", n, err)
	}
}
