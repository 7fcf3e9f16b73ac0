// Package decompress opens compressed files of the forms that package archives and
// kernel.org publish. How much comes out of one is for its caller to bound.
package decompress

import (
	"bytes"
	"compress/bzip2"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxWindow is the most memory that a zstd file may ask for, in bytes: the window
// of "zstd --ultra --long=27", and the most that zstd itself takes unasked.
const maxWindow = 128 << 20

// The beginnings of compressed files.
var magics = []struct{ magic, suffix string }{
	{"\xfd7zXZ\x00", ".xz"},      // https://tukaani.org/xz/xz-file-format.txt, 2.1.1.1
	{"\x1f\x8b\x08", ".gz"},      // RFC 1952, 2.3.1
	{"\x28\xb5\x2f\xfd", ".zst"}, // RFC 8878, 3.1.1
	{"BZh", ".bz2"},
}

// HeadSize is how many bytes Suffix needs.
const HeadSize = 6

// Suffix is the suffix of files that begin as head does; ok is false where none is known.
func Suffix(head []byte) (suffix string, ok bool) {
	for _, m := range magics {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return m.suffix, true
		}
	}
	return "", false
}

// NewReader undoes the compression that files of a suffix have: ".gz", ".xz", ".bz2", ".zst", or "" for none.
func NewReader(r io.Reader, suffix string) (plain io.ReadCloser, err error) {
	switch suffix {
	case "":
		return io.NopCloser(r), nil
	case ".gz":
		plain, err = gzip.NewReader(r)
	case ".xz":
		var x *xz.Reader
		x, err = xz.NewReader(r)
		plain = io.NopCloser(x)
	case ".bz2":
		plain = io.NopCloser(bzip2.NewReader(r))
	case ".zst":
		var z *zstd.Decoder
		z, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err == nil {
			plain = z.IOReadCloser()
		}
	default:
		return nil, fmt.Errorf("compression %q is not known", suffix)
	}
	if err != nil {
		return nil, fmt.Errorf("decompress %s: %w", strings.TrimPrefix(suffix, "."), err)
	}
	return plain, nil
}
