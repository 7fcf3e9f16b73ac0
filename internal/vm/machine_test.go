package vm

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTail(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     []string
	}{
		{"lines", "one\r\ntwo\n\n  three", []string{"one", "two", "three"}},
		{"escapes", "\x1b[0;1;31m*\x1b[0m] red\x1b]\x07\n\x1bcx\x1b[", []string{"*] red", "x"}},
		{"not text", "a\x00b\x7f\u009bc\n", []string{"abc"}},
		{"a long line", strings.Repeat("x", tailLine+1) + "\n", []string{strings.Repeat("x", tailLine), "x"}},
	} {
		var also bytes.Buffer
		w := &tail{also: &also}
		for i := range len(c.in) {
			w.Write([]byte{c.in[i]})
		}
		got := w.lines()
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", c.name, diff)
		}
		if also.String() != c.in {
			t.Errorf("%s: %q was passed on", c.name, also.String())
		}
	}
	w := &tail{}
	for i := range 3 * tailLines {
		fmt.Fprintf(w, "%d\n", i)
	}
	if got := w.lines(); len(got) != tailLines || got[0] != fmt.Sprint(2*tailLines) {
		t.Errorf("kept %d lines from %s", len(got), got[0])
	}
}
