package recording

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/sparse"
	"github.com/kimg/kimg/internal/units"
)

// digestFile is [sparse.Hash]'s digest of a regular file, and its size.
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
	sum := sha256.New()
	if err := sparse.Hash(ctx, sum, f); err != nil {
		return "", 0, err
	}
	return units.DigestSum(sum), info.Size(), nil
}

// CheckOverlay is an error for a qcow2 that names other files: a base below it, or one with its data. (docs/interop/
// qcow2.rst of QEMU; kimg's own name none.)
func CheckOverlay(name, file string) error {
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
