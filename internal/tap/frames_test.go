package tap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
)

func frame(length int, data string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(length))) + data
}

func TestReadFrame(t *testing.T) {
	long := strings.Repeat("x", maxFrame)
	for _, c := range []struct {
		name, in, want string
		err            error
	}{
		{"one", frame(3, "abcd"), "abc", nil},
		{"the longest", frame(maxFrame, long), long, nil},
		{"nothing", "", "", io.EOF},
		{"half a length", "\x00\x00", "", io.ErrUnexpectedEOF},
		{"half a frame", frame(3, "ab"), "", io.ErrUnexpectedEOF},
		{"no frame", frame(3, ""), "", io.ErrUnexpectedEOF},
		{"too long", frame(maxFrame+1, long), "", errFrame},
		{"empty", frame(0, "abc"), "", errFrame},
		{"a length that is negative to some", "\xff\xff\xff\xff", "", errFrame},
	} {
		got, err := readFrame(strings.NewReader(c.in), make([]byte, maxFrame))
		if !errors.Is(err, c.err) || err == nil && string(got) != c.want {
			t.Errorf("%s: %d bytes, %v", c.name, len(got), err)
		}
	}
}

func FuzzReadFrame(f *testing.F) {
	for _, seed := range []string{"", frame(3, "abc") + frame(1, "d"), frame(0, ""), frame(maxFrame+1, "x"),
		"\x00\x00\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r, buf, back := bytes.NewReader(in), make([]byte, maxFrame), []byte(nil)
		for {
			got, err := readFrame(r, buf)
			if err != nil {
				break
			}
			back = append(back, frame(len(got), string(got))...)
		}
		if !bytes.HasPrefix(in, back) {
			t.Errorf("%q was read as %q", in, back)
		}
	})
}
