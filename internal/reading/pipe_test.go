package reading

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestPipe(t *testing.T) {
	long := strings.Repeat("0123456789", 1<<18)
	send := func(w io.Writer) error {
		_, err := io.Copy(w, strings.NewReader(long))
		if err != nil {
			err = fmt.Errorf("send: %w", err)
		}
		return err
	}
	err := Pipe(send, func(r io.Reader) error {
		if b, err := io.ReadAll(r); err != nil || string(b) != long {
			t.Errorf("%d bytes arrived, %v", len(b), err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	bad, worse := errors.New("bad"), errors.New("worse")
	// The writer's error is the cause, whatever the reader makes of it.
	err = Pipe(func(w io.Writer) error { return errors.Join(send(w), bad) }, func(r io.Reader) error {
		if _, err := io.Copy(io.Discard, r); !errors.Is(err, bad) {
			t.Errorf("the reader sees %v", err)
		}
		return worse
	})
	if !errors.Is(err, bad) || errors.Is(err, worse) {
		t.Errorf("got %v, want %v", err, bad)
	}
	// A reader that takes no more ends the writer.
	if err := Pipe(send, func(io.Reader) error { return bad }); err != bad {
		t.Errorf("got %v, want %v", err, bad)
	}
	if err := Pipe(send, func(io.Reader) error { return nil }); err != nil {
		t.Errorf("got %v from a reader that had enough", err)
	}
}
