package container

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"
)

func TestElastic(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789"), 1<<18)
	broken := errors.New("the source broke off")
	for _, end := range []error{io.EOF, broken} {
		e := newElastic(io.MultiReader(iotest.HalfReader(bytes.NewReader(want)), iotest.ErrReader(end)), nil)
		got, err := io.ReadAll(e)
		if !bytes.Equal(got, want) || (end == broken) != errors.Is(err, broken) {
			t.Errorf("%d of %d bytes, %v; want %v", len(got), len(want), err, end)
		}
	}

	// It takes what there is before anyone reads, and ends when it is stopped.
	src, w := io.Pipe()
	stop := make(chan struct{})
	e := newElastic(src, stop)
	w.Write(want[:1<<20])
	w.Write(want[:1<<10])
	close(stop)
	if n, err := e.Read(make([]byte, 10)); err == nil {
		t.Errorf("read %d bytes after the stop", n)
	}
	w.Close()
}

// A source that had to be stopped is told of, for as long as it is.
func TestElasticLate(t *testing.T) {
	e := &elastic{pieces: make(chan []byte, 1), taken: make(chan struct{}, 1)}
	late := func(want bool) {
		t.Helper()
		for range 500 {
			if e.late() == want {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("late is not %t", want)
	}
	e.put([]byte("a"))
	late(false)
	go e.put([]byte("b"))
	late(true)
	e.Read(make([]byte, 1))
	late(false)
}
