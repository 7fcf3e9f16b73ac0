package decompress

import (
	"bytes"
	"encoding/base64"
	"io"
	"strings"
	"testing"
)

// hello is "hello\n" by each tool: gzip 1.12, xz 5.4, bzip2 1.0.8, zstd 1.5.
var hello = map[string]string{
	".gz":  "H4sIAAAAAAAAA8tIzcnJ5wIAIDA6NgYAAAA=",
	".xz":  "/Td6WFoAAATm1rRGBMAKBiEBFgAAAAAAAAAAAKowjqYBAAVoZWxsbwoAAAClYJfxlPb94AABJgY6kzsKH7bzfQEAAAAABFla",
	".bz2": "QlpoOTFBWSZTWcHAgOIAAAFBAAAQAkSgADDNAMNGKZcXckU4UJDBwIDi",
	".zst": "KLUv/QRYMQAAaGVsbG8KU4i9kQ==",
}

func packed(t *testing.T, suffix string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(hello[suffix])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func read(b []byte, suffix string) (string, error) {
	r, err := NewReader(bytes.NewReader(b), suffix)
	if err != nil {
		return "", err
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	return string(text), err
}

func TestNewReader(t *testing.T) {
	for suffix := range hello {
		b := packed(t, suffix)
		if got, err := read(b, suffix); got != "hello\n" || err != nil {
			t.Errorf("%s: %q, %v", suffix, got, err)
		}
		if found, ok := Suffix(b[:HeadSize]); !ok || found != suffix {
			t.Errorf("%s begins like %q, %v", suffix, found, ok)
		}
		if got, err := read(b[:len(b)-5], suffix); err == nil {
			t.Errorf("%s, cut short: %q", suffix, got)
		}
		if got, err := read([]byte("hello\n"), suffix); err == nil {
			t.Errorf("%s of a plain text: %q", suffix, got)
		}
	}
	if got, err := read([]byte("hello\n"), ""); got != "hello\n" || err != nil {
		t.Errorf("plain: %q, %v", got, err)
	}
	if _, err := read(nil, ".lzma"); err == nil || !strings.Contains(err.Error(), ".lzma") {
		t.Errorf("another suffix: %v", err)
	}
	for _, head := range []string{"", "\xfd", "hello\n"} {
		if suffix, ok := Suffix([]byte(head)); ok {
			t.Errorf("%q begins like %s", head, suffix)
		}
	}
}

// A file that asks for more memory than it may is refused before it has any.
func TestWindow(t *testing.T) {
	// A frame header of RFC 8878, 3.1.1.1: no size, and a window of 2^30 bytes.
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, (30 - 10) << 3, 0x31, 0x00, 0x00, 'h', 'e', 'l', 'l', 'o', '\n'}
	if got, err := read(frame, ".zst"); err == nil {
		t.Errorf("a window of a gibibyte: %q", got)
	}
	frame[5] = (27 - 10) << 3
	if got, err := read(frame, ".zst"); got != "hello\n" || err != nil {
		t.Errorf("a window of 128 MiB: %q, %v", got, err)
	}
}
