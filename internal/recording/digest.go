package recording

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/sparse"
	"github.com/kimg/kimg/internal/units"
)

// block is what a digest skips where it has nothing but zeros, in bytes.
const block = 64 << 10

// digestFile is a digest of a file's size and of its blocks that are not zero, each with its place: a disk of mostly
// holes is read in a fraction of the time, and a hole is the same as zeros that are written out.
func digestFile(ctx context.Context, name string) (units.Digest, int64, error) {
	f, err := reading.Open(name)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", 0, err
	}
	if !info.Mode().IsRegular() {
		return "", 0, fmt.Errorf("%s is %s", name, reading.Kind(info.Mode()))
	}
	size := info.Size()
	sum := sha256.New()
	zeros, buf := make([]byte, block), make([]byte, block)
	var number [8]byte
	tell := func(n int64) {
		binary.BigEndian.PutUint64(number[:], uint64(n))
		sum.Write(number[:])
	}
	tell(size)
	for at := int64(0); at < size; {
		if ctx.Err() != nil {
			return "", 0, context.Cause(ctx)
		}
		start, end, err := sparse.Data(f, at, size)
		if err != nil {
			return "", 0, err
		}
		if start >= size {
			break
		}
		for at = start / block * block; at < end; at += block {
			n, err := f.ReadAt(buf[:min(block, size-at)], at)
			if err != nil && !errors.Is(err, io.EOF) {
				return "", 0, err
			}
			if !bytes.Equal(buf[:n], zeros[:n]) {
				tell(at)
				sum.Write(buf[:n])
			}
			if ctx.Err() != nil {
				return "", 0, context.Cause(ctx)
			}
		}
	}
	return units.DigestSum(sum), size, nil
}

// checkOverlay is an error for a qcow2 that names other files: a base below it, or one with its data. (docs/interop/
// qcow2.rst of QEMU; kimg's own name none.)
func checkOverlay(name, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("use recording %s: %w", name, err)
	}
	defer f.Close()
	var header [80]byte
	if _, err := io.ReadFull(f, header[:]); err != nil {
		return fmt.Errorf("use recording %s: read %s: %w", name, Overlay, err)
	}
	const dirty = 1
	switch {
	case string(header[:4]) != "QFI\xfb" || binary.BigEndian.Uint32(header[4:]) != 3:
		return &Error{"use", name, Overlay + " is no qcow2 of version 3", ""}
	case binary.BigEndian.Uint64(header[8:]) != 0:
		return &Error{"use", name, Overlay + " names a file below it", ""}
	case binary.BigEndian.Uint64(header[72:])&^dirty != 0:
		return &Error{"use", name, Overlay + " has features that no recording has", ""}
	}
	return nil
}
