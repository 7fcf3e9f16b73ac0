package export

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Pack returns what a format writes to so that its file is compressed as the file's name says: .gz or .tgz, .zst,
// and not at all for every other. Its Close does not close w. Neither form holds a time or a name, so the same
// bytes come out for the same bytes.
func (k *Kind) Pack(name string, w io.Writer) (io.WriteCloser, error) {
	switch {
	case !k.Packs:
		return plain{w}, nil
	case strings.HasSuffix(name, ".gz"), strings.HasSuffix(name, ".tgz"):
		z := gzip.NewWriter(w)
		z.ModTime = time.Unix(0, 0) // no time (RFC 1952); this package writes Go's zero time as one in 2042
		return z, nil
	case strings.HasSuffix(name, ".zst"):
		// One goroutine: how many processors there are must not show.
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	case strings.HasSuffix(name, ".xz"), strings.HasSuffix(name, ".bz2"):
		return nil, fmt.Errorf("compress %s: only .gz and .zst are written", name)
	}
	return plain{w}, nil
}

// plain compresses nothing.
type plain struct{ io.Writer }

func (plain) Close() error { return nil }
