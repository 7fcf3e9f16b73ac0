// Package sparse handles large files that are mostly zeros: it copies them without the
// zeros ([Copy], [CopyFile]), says where their data is ([Map], [Data]), and hashes it ([Hash]).
package sparse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	// block is what Map counts in: a multiple of common file systems' blocks, a divisor of ext4 images' alignment.
	block = 64 << 10
	// hole is what Copy leaves out: a block of most file systems.
	hole = 4 << 10
	// buffer is how much is read at once: a multiple of hole.
	buffer = 1 << 20
)

var zeros [block]byte

// Copy writes r's bytes to f, which must be empty or read as zeros, with blocks of zeros as holes.
func Copy(f *os.File, r io.Reader) (int64, error) {
	n, err := copyAt(f, 0, r)
	if err != nil {
		return n, err
	}
	return n, extend(f, n)
}

// CopyFile is Copy for a file of size bytes, of which it reads only the data. The end of ctx ends it.
func CopyFile(ctx context.Context, to, from *os.File, size int64) error {
	for at := int64(0); at < size; {
		start, end, err := Data(from, at, size)
		if err != nil {
			return err
		}
		for at = start; at < end; {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			n, err := copyAt(to, at, io.NewSectionReader(from, at, min(end-at, 16*buffer)))
			if err != nil {
				return err
			}
			if n == 0 {
				return fmt.Errorf("read %s: %w", from.Name(), io.ErrUnexpectedEOF)
			}
			at += n
		}
	}
	return extend(to, size)
}

// copyAt writes r's bytes to f at an offset, but no blocks of zeros.
func copyAt(f *os.File, at int64, r io.Reader) (int64, error) {
	buf := make([]byte, buffer)
	for n := int64(0); ; {
		k, err := io.ReadFull(r, buf)
		if bad := writeData(f, buf[:k], at+n); bad != nil {
			return n, fmt.Errorf("write %s: %w", f.Name(), bad)
		}
		n += int64(k)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return n, nil
		case err != nil:
			return n, err
		}
	}
}

// writeData writes the stretches of b that are not blocks of zeros.
func writeData(f *os.File, b []byte, at int64) error {
	isHole := func(i int) bool {
		piece := b[i:min(i+hole, len(b))]
		return bytes.Equal(piece, zeros[:len(piece)])
	}
	for i := 0; i < len(b); {
		j := i
		for j < len(b) && !isHole(j) {
			j += hole
		}
		if j > i {
			if _, err := f.WriteAt(b[i:min(j, len(b))], at+int64(i)); err != nil {
				return err
			}
		}
		i = j + hole
	}
	return nil
}

// extend gives f at least a size: a hole at the end is not written.
func extend(f *os.File, size int64) error {
	st, err := f.Stat()
	if err == nil && st.Size() < size {
		err = f.Truncate(size)
	}
	return err
}

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
