package terminal

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"
)

// What is no terminal is left alone.
func TestNoTerminal(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, stream := range map[string]any{"nil": nil, "a buffer": &bytes.Buffer{}, "a file": f,
		"no file": (*os.File)(nil)} {
		terminal := Of(stream)
		if terminal.Is() || terminal.Size() != (Size{}) {
			t.Errorf("%s is a terminal: %+v", name, terminal)
		}
		restore, err := terminal.Raw()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		restore()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		terminal.Follow(ctx, func(Size) { t.Errorf("%s has a size", name) })
	}
	if _, err := ReadPassword(t.Context(), f); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("a password from %s: %v", os.DevNull, err)
	}
}
