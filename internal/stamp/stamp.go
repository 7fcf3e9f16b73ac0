// Package stamp gives the files in an image of a file system their owners, modes, devices and times, where the file
// system's own tool, run by an ordinary user, cannot take them along. The tool fills the image from stand-ins, each of
// which carries a mark; here the marks are found again, and what they stand for is written in their place. Only fields
// of fixed size are written, and the checksums of the blocks that they are in: nothing moves.
//
// The layouts are those of the kernel's include/uapi/linux/btrfs_tree.h and fs/xfs/libxfs/xfs_format.h.
package stamp

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"
)

// Image is what is read and written, by offsets in bytes.
type Image interface {
	io.ReaderAt
	io.WriterAt
}

// Inode is what a file gets.
type Inode struct {
	Mode         uint32 // as st_mode has it: its type, too, which may be another than the stand-in's
	UID, GID     uint32
	Major, Minor uint32    // of a device
	Time         time.Time // all of its times, whole seconds
	Link         string    // of a symbolic link: what the stand-in's text becomes, and as long
}

// ErrDamaged is of an image that is not as its tool leaves one.
var ErrDamaged = errors.New("the image is damaged")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), ErrDamaged)
}

// File types of st_mode.
const (
	typeMask = 0o170000
	fifo     = 0o010000
	char     = 0o020000
	dir      = 0o040000
	block    = 0o060000
	regular  = 0o100000
	symlink  = 0o120000
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// marks hands inodes out by their marks, which are 1 to len(inodes): each once.
type marks struct {
	inodes []Inode
	seen   []bool
}

func newMarks(inodes []Inode) *marks { return &marks{inodes, make([]bool, len(inodes))} }

func (m *marks) take(mark uint64) (*Inode, error) {
	if mark < 1 || mark > uint64(len(m.inodes)) {
		return nil, damaged("a file has the mark %d, and there are %d", mark, len(m.inodes))
	}
	if m.seen[mark-1] {
		return nil, damaged("two files have the mark %d", mark)
	}
	m.seen[mark-1] = true
	return &m.inodes[mark-1], nil
}

// all fails where a mark was not found.
func (m *marks) all() error {
	for i, seen := range m.seen {
		if !seen {
			return damaged("the file with the mark %d of %d is not there", i+1, len(m.seen))
		}
	}
	return nil
}
