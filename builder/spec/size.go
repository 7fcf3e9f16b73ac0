package spec

import (
	"fmt"

	"github.com/kimg/kimg/internal/units"
)

// DiskSize is the size of rootfs.img, in bytes, or Smallest. It reads and writes itself as text: 512M, 2G, min.
type DiskSize Size

// Smallest is as large as the files of the root filesystem and the reserve for a guest's life need, and no larger.
const Smallest DiskSize = -1

// smallest is how it is written.
const smallest = "min"

// The bounds of --size: the least has a file system with a journal, and whether the tree fits is checked against the
// tree; a larger number than the most is a slip of the keyboard.
const (
	minSize = DiskSize(64 << 20)
	maxSize = DiskSize(1 << 40)
)

func (s DiskSize) check() error {
	if s != Smallest && (s < minSize || s > maxSize || s%(1<<20) != 0) {
		return fmt.Errorf("%s is not a size for a root filesystem: want %s to %s, in whole MiB, such as 2G; "+
			"or %s, the smallest that holds its files", s, minSize, maxSize, smallest)
	}
	return nil
}

// Bytes is how large the image is; 0: as small as its tree allows.
func (s DiskSize) Bytes() Size {
	if s == Smallest {
		return 0
	}
	return Size(s)
}

// Most is what it can be at the most.
func (s DiskSize) Most() Size {
	if s == Smallest {
		return Size(maxSize)
	}
	return Size(s)
}

// String is what UnmarshalText reads.
func (s DiskSize) String() string {
	if s == Smallest {
		return smallest
	}
	return Size(s).String()
}

// MarshalText writes String.
func (s DiskSize) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a size, or min.
func (s *DiskSize) UnmarshalText(b []byte) error {
	if string(b) == smallest {
		*s = Smallest
		return nil
	}
	v, err := units.ParseSize(string(b))
	if err != nil {
		return fmt.Errorf("%w; or %s, the smallest that holds the files", err, smallest)
	}
	*s = DiskSize(v)
	return nil
}
