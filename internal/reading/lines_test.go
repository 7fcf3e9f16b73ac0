package reading

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func TestLines(t *testing.T) {
	const limit = 10000 // more than bufio reads at once
	whole, long := strings.Repeat("x", limit), strings.Repeat("y", limit+1)
	for name, c := range map[string]struct {
		in   string
		want []string
	}{
		"nothing":              {"", nil},
		"lines":                {"one\r\ntwo\n\nthree", []string{"one", "two", "", "three"}},
		"as long as may be":    {whole + "\r\n" + whole + "\n" + whole, []string{whole, whole, whole}},
		"too long":             {"one\n" + long + "\ntwo\n", []string{"one", "LONG", "two"}},
		"much too long":        {strings.Repeat(long, 50) + "\ntwo", []string{"LONG", "two"}},
		"too long, at the end": {"one\n" + long, []string{"one", "LONG"}},
	} {
		for _, r := range []io.Reader{strings.NewReader(c.in), iotest.OneByteReader(strings.NewReader(c.in))} {
			var got []string
			for line, err := range Lines(r, limit) {
				var tooLong *LongLineError
				if errors.As(err, &tooLong) {
					line = "LONG"
				} else if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				got = append(got, line)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%s: %.100q; want %.100q", name, got, c.want)
			}
		}
	}
	bad := errors.New("bad")
	var last error
	for line, err := range Lines(io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(bad)), limit) {
		if line == "" {
			last = err
		}
	}
	if !errors.Is(last, bad) {
		t.Errorf("a reader that fails: %v", last)
	}
	for range Lines(strings.NewReader("one\ntwo\n"), limit) {
		break // must not panic
	}
}
