package sparse

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// Hash writes a file's size and its blocks that are not zeros, each with its place, to w, a hash: what that gives does
// not depend on where the file system has holes, and holes are not read. The end of ctx ends it.
func Hash(ctx context.Context, w io.Writer, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	number := func(n int64) { _ = binary.Write(w, binary.LittleEndian, n) } // a hash takes whatever comes
	number(size)
	buf := make([]byte, buffer)
	for at := int64(0); at < size; {
		start, end, err := Data(f, at, size)
		if err != nil {
			return err
		}
		// Whole blocks, whatever the pieces that the file system tells.
		for at = max(at, start/block*block); at < end; {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			n := min(int64(len(buf)), (end-at+block-1)/block*block, size-at)
			if _, err := f.ReadAt(buf[:n], at); err != nil {
				if errors.Is(err, io.EOF) {
					err = io.ErrUnexpectedEOF
				}
				return fmt.Errorf("read %s: %w", f.Name(), err)
			}
			for i := int64(0); i < n; i += block {
				if piece := buf[i:min(i+block, n)]; !bytes.Equal(piece, zeros[:len(piece)]) {
					number(at + i)
					_, _ = w.Write(piece)
				}
			}
			at += n
		}
	}
	return nil
}
