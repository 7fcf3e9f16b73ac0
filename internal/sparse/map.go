package sparse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Extent is a piece of a file that is not all zeros. Both are bytes.
type Extent struct{ Offset, Length int64 }

// Map reads r to its end and returns which pieces are not zeros, in order and none touching the next, and how many
// bytes there were. It looks at what is read and not at the file's holes: the same bytes have the same map wherever
// they are kept.
func Map(r io.Reader) (list []Extent, size int64, err error) {
	buf := make([]byte, block)
	for {
		n, err := io.ReadFull(r, buf)
		if !bytes.Equal(buf[:n], zeros[:n]) {
			if k := len(list); k > 0 && list[k-1].Offset+list[k-1].Length == size {
				list[k-1].Length += int64(n)
			} else {
				list = append(list, Extent{size, int64(n)})
			}
		}
		size += int64(n)
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return list, size, nil
		case err != nil:
			return nil, 0, fmt.Errorf("look for zeros: %w", err)
		}
	}
}
