// Package sparse writes large files that are mostly zeros without the zeros. It
// must not know what the files are.
package sparse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// block is the unit that is left out: a multiple of every common file system's
// block, and a divisor of ext4 images' usual alignment.
const block = 64 << 10

var zeros [block]byte

// Copy writes r's bytes to f, which must be empty or read as zeros, from its
// beginning on; blocks of zeros become holes. It returns how many bytes f has
// then.
func Copy(f *os.File, r io.Reader) (int64, error) {
	buf := make([]byte, block)
	for at := int64(0); ; {
		n, err := io.ReadFull(r, buf)
		if !bytes.Equal(buf[:n], zeros[:n]) {
			if _, err := f.WriteAt(buf[:n], at); err != nil {
				return at, fmt.Errorf("write %s: %w", f.Name(), err)
			}
		}
		at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			st, err := f.Stat()
			if err == nil && st.Size() < at {
				err = f.Truncate(at)
			}
			return at, err
		}
		if err != nil {
			return at, err
		}
	}
}
