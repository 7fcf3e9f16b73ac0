package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
)

func TestAsk(t *testing.T) {
	for in, want := range map[string]bool{
		"y\n": true, "YES\r\n": true, " yes \n": true, "y": true, "\n": false, "": false, "n\n": false,
		"yesterday\n": false,
	} {
		var out bytes.Buffer
		got, err := ask(t.Context(), strings.NewReader(in), &out, "Compile it?")
		if got != want || err != nil || !strings.HasPrefix(out.String(), "Compile it? [y/N] ") {
			t.Errorf("%q: %v, %v, %q", in, got, err, out.String())
		}
	}
}

// TestAskEnds has a person who pushes Ctrl-C instead of answering.
func TestAskEnds(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	defer r.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	if yes, err := ask(ctx, r, &out, "Compile it?"); yes || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", yes, err)
	}
}
