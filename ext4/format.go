package ext4

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/bits"
	"time"
)

var le = binary.LittleEndian

// Places and magic numbers of the format.
const (
	superblockAt    = 1024
	superblockLen   = 1024
	superblockMagic = 0xEF53

	rootInode  = 2
	minInode   = 128     // bytes of an inode in the oldest format
	maxBlock   = 1 << 16 // bytes
	minDesc32  = 32      // bytes of a group descriptor without 64bit
	maxDescLen = 1024
)

// Features that decide how, and whether, an image can be read.
const (
	incompatFiletype   = 0x0002
	incompatRecover    = 0x0004
	incompatExtents    = 0x0040
	incompat64bit      = 0x0080
	incompatMMP        = 0x0100
	incompatFlexBG     = 0x0200
	incompatEAInode    = 0x0400
	incompatCsumSeed   = 0x2000
	incompatLargeDir   = 0x4000
	incompatInlineData = 0x8000
	incompatCasefold   = 0x20000
	incompatUnderstood = incompatFiletype | incompatExtents | incompat64bit | incompatMMP | incompatFlexBG |
		incompatEAInode | incompatCsumSeed | incompatLargeDir | incompatInlineData | incompatCasefold
	roCompatHugeFile    = 0x0008
	roCompatBigalloc    = 0x0200
	inodeFlagHugeFile   = 0x00040000
	inodeFlagExtents    = 0x00080000
	inodeFlagInlineData = 0x10000000
	inodeFlagEncrypted  = 0x00000800
)

// Superblock is what an ext4 file system says of itself.
type Superblock struct {
	Blocks, FreeBlocks         int64
	Inodes, FreeInodes         uint32
	BlockSize                  int64 // bytes
	BlocksPerGroup             uint32
	InodesPerGroup             uint32
	InodeSize                  int // bytes
	Compat, Incompat, ROCompat uint32
	UUID, HashSeed             [16]byte
	Label                      string
	Created, Written, Checked  time.Time

	firstBlock int64
	descSize   int64
}

func (sb *Superblock) bytes() int64 { return sb.Blocks * sb.BlockSize }

func readSuperblock(r io.ReaderAt, size int64) ([]byte, *Superblock, error) {
	b := make([]byte, superblockLen)
	if size < superblockAt+superblockLen {
		return nil, nil, fmt.Errorf("no ext4 file system: %d bytes are too few", size)
	}
	if _, err := r.ReadAt(b, superblockAt); err != nil {
		return nil, nil, fmt.Errorf("read superblock: %w", err)
	}
	if le.Uint16(b[0x38:]) != superblockMagic {
		return nil, nil, fmt.Errorf("no ext4 file system: its magic number is missing")
	}
	sb := &Superblock{
		Inodes: le.Uint32(b), Blocks: int64(le.Uint32(b[0x4:])), FreeBlocks: int64(le.Uint32(b[0xC:])),
		FreeInodes:     le.Uint32(b[0x10:]),
		BlocksPerGroup: le.Uint32(b[0x20:]), InodesPerGroup: le.Uint32(b[0x28:]),
		Compat: le.Uint32(b[0x5C:]), Incompat: le.Uint32(b[0x60:]), ROCompat: le.Uint32(b[0x64:]),
		UUID: [16]byte(b[0x68:]), HashSeed: [16]byte(b[0xEC:]), Label: cString(b[0x78:0x88]),
		Written: superTime(b, 0x30, 0x274), Checked: superTime(b, 0x40, 0x277), Created: superTime(b, 0x108, 0x276),
		firstBlock: int64(le.Uint32(b[0x14:])), InodeSize: minInode, descSize: minDesc32,
	}
	if le.Uint32(b[0x4C:]) > 0 { // the dynamic revision
		sb.InodeSize = int(le.Uint16(b[0x58:]))
	}
	if sb.Incompat&incompat64bit != 0 {
		sb.Blocks |= int64(le.Uint32(b[0x150:])) << 32
		sb.FreeBlocks |= int64(le.Uint32(b[0x158:])) << 32
		sb.descSize = int64(le.Uint16(b[0xFE:]))
	}
	if log := le.Uint32(b[0x18:]); log <= 6 {
		sb.BlockSize = 1024 << log
	}
	return b, sb, sb.check(size)
}

// check refuses numbers that no reader could work with: after it nothing overflows or divides by zero.
func (sb *Superblock) check(size int64) error {
	if no := sb.Incompat &^ incompatUnderstood; no&incompatRecover != 0 {
		return fmt.Errorf("its journal has not been replayed (it was not shut down cleanly): " +
			"run e2fsck on a copy first")
	} else if no != 0 {
		return fmt.Errorf("it uses features that kimg cannot read (incompat %#x)", no)
	}
	if sb.ROCompat&roCompatBigalloc != 0 {
		return fmt.Errorf("it uses bigalloc, which kimg cannot read")
	}
	switch {
	case sb.BlockSize < 1024 || sb.BlockSize > maxBlock:
		return corrupt("no valid block size")
	case sb.Blocks <= 0 || sb.Blocks > size/sb.BlockSize:
		return corrupt("it says %d blocks of %d bytes, and the image has %d bytes", sb.Blocks, sb.BlockSize, size)
	case sb.firstBlock > 1 || sb.firstBlock >= sb.Blocks:
		return corrupt("its first block is %d", sb.firstBlock)
	case sb.BlocksPerGroup == 0 || int64(sb.BlocksPerGroup) > 8*sb.BlockSize:
		return corrupt("%d blocks per group", sb.BlocksPerGroup)
	case sb.InodesPerGroup == 0 || int64(sb.InodesPerGroup) > 8*sb.BlockSize:
		return corrupt("%d inodes per group", sb.InodesPerGroup)
	case sb.InodeSize < minInode || int64(sb.InodeSize) > sb.BlockSize || bits.OnesCount(uint(sb.InodeSize)) != 1:
		return corrupt("inodes of %d bytes", sb.InodeSize)
	case sb.descSize < minDesc32 || sb.descSize > maxDescLen || bits.OnesCount(uint(sb.descSize)) != 1:
		return corrupt("group descriptors of %d bytes", sb.descSize)
	case sb.Incompat&incompat64bit != 0 && sb.descSize < 64:
		return corrupt("group descriptors of %d bytes with 64bit", sb.descSize)
	}
	if n := sb.groups(); int64(sb.Inodes) != n*int64(sb.InodesPerGroup) {
		return corrupt("%d inodes in %d groups of %d", sb.Inodes, n, sb.InodesPerGroup)
	}
	return nil
}

func (sb *Superblock) groups() int64 {
	per := int64(sb.BlocksPerGroup)
	return (sb.Blocks - sb.firstBlock + per - 1) / per
}

// readGroups returns where each group's inode table begins, and where the bitmaps of all groups are.
func readGroups(r io.ReaderAt, sb *Superblock) (tables, maps []int64, err error) {
	n := sb.groups()
	at := (sb.firstBlock + 1) * sb.BlockSize
	if at+n*sb.descSize > sb.bytes() {
		return nil, nil, corrupt("%d group descriptors do not fit", n)
	}
	b := make([]byte, n*sb.descSize) // below the image's size
	if _, err := r.ReadAt(b, at); err != nil {
		return nil, nil, fmt.Errorf("read group descriptors: %w", err)
	}
	tableBlocks := (int64(sb.InodesPerGroup)*int64(sb.InodeSize) + sb.BlockSize - 1) / sb.BlockSize
	tables, maps = make([]int64, n), make([]int64, 0, 2*n)
	for i := range tables {
		d := b[int64(i)*sb.descSize:]
		block := func(lo, hi int) int64 {
			n := int64(le.Uint32(d[lo:]))
			if sb.Incompat&incompat64bit != 0 {
				n |= int64(le.Uint32(d[hi:])) << 32
			}
			return n
		}
		tables[i] = block(0x8, 0x28)
		maps = append(maps, block(0x0, 0x20), block(0x4, 0x24))
		if tables[i] <= 0 || tables[i] > sb.Blocks-tableBlocks {
			return nil, nil, corrupt("the inode table of group %d is outside", i)
		}
	}
	return tables, maps, nil
}

type inode struct {
	num      uint32
	mode     uint16
	uid, gid uint32
	links    uint16
	size     int64
	flags    uint32
	blocks   int64 // units of 512 bytes
	acl      int64 // block of extended attributes, or 0
	block    [60]byte
	extra    []byte // what lies behind the extra fields: attributes
	gen      uint32 // for NFS; the kernel draws it at random
	atime    time.Time
	ctime    time.Time
	mtime    time.Time
	crtime   time.Time // zero where the inode has no room for it
}

func (img *Image) inode(num uint32) (*inode, error) {
	if num == 0 || num > img.sb.Inodes {
		return nil, corrupt("inode %d does not exist", num)
	}
	group, index := (num-1)/img.sb.InodesPerGroup, (num-1)%img.sb.InodesPerGroup
	b := make([]byte, img.sb.InodeSize)
	if _, err := img.r.ReadAt(b, img.groups[group]*img.sb.BlockSize+int64(index)*int64(img.sb.InodeSize)); err != nil {
		return nil, fmt.Errorf("read inode %d: %w", num, err)
	}
	in := &inode{
		num: num, mode: le.Uint16(b), links: le.Uint16(b[0x1A:]), flags: le.Uint32(b[0x20:]),
		uid:    uint32(le.Uint16(b[0x2:])) | uint32(le.Uint16(b[0x78:]))<<16,
		gid:    uint32(le.Uint16(b[0x18:])) | uint32(le.Uint16(b[0x7A:]))<<16,
		blocks: int64(le.Uint32(b[0x1C:])), acl: int64(le.Uint32(b[0x68:])),
		block: [60]byte(b[0x28:]), gen: le.Uint32(b[0x64:]),
	}
	if img.sb.Incompat&incompat64bit != 0 {
		in.acl |= int64(le.Uint16(b[0x76:])) << 32
	}
	if img.sb.ROCompat&roCompatHugeFile != 0 {
		in.blocks |= int64(le.Uint16(b[0x74:])) << 32
		if in.flags&inodeFlagHugeFile != 0 {
			in.blocks *= img.sb.BlockSize / 512
		}
	}
	size := uint64(le.Uint32(b[0x4:]))
	if t := in.typ(); t == 0 || t == fs.ModeDir {
		size |= uint64(le.Uint32(b[0x6C:])) << 32
	}
	if size > math.MaxUint32*uint64(img.sb.BlockSize) { // logical block numbers have 32 bits
		return nil, corrupt("inode %d says a size of %d bytes", num, size)
	}
	in.size = int64(size)
	fields := minInode
	if len(b) > minInode {
		fields += int(le.Uint16(b[0x80:]))
		if fields > len(b) || fields%4 != 0 {
			return nil, corrupt("inode %d has %d bytes of fields", num, fields)
		}
		in.extra = b[fields:]
	}
	in.atime = inodeTime(b, fields, 0x8, 0x8C)
	in.ctime = inodeTime(b, fields, 0xC, 0x84)
	in.mtime = inodeTime(b, fields, 0x10, 0x88)
	if fields >= 0x94 {
		in.crtime = inodeTime(b, fields, 0x90, 0x94)
	}
	return in, nil
}

// inodeTime reads a time and, where the inode has it, the field of two more bits and the nanoseconds.
func inodeTime(b []byte, fields, at, extra int) time.Time {
	sec, nsec := int64(int32(le.Uint32(b[at:]))), int64(0)
	if fields >= extra+4 {
		x := le.Uint32(b[extra:])
		sec += int64(x&3) << 32
		nsec = int64(x >> 2)
	}
	return time.Unix(sec, nsec).UTC()
}

func superTime(b []byte, lo, hi int) time.Time {
	return time.Unix(int64(le.Uint32(b[lo:]))|int64(b[hi])<<32, 0).UTC()
}

func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// typ is the inode's type: 0 for a regular file, and fs.ModeIrregular for what no ext4 has.
func (in *inode) typ() fs.FileMode {
	switch in.mode & 0xF000 {
	case 0x1000:
		return fs.ModeNamedPipe
	case 0x2000:
		return fs.ModeDevice | fs.ModeCharDevice
	case 0x4000:
		return fs.ModeDir
	case 0x6000:
		return fs.ModeDevice
	case 0x8000:
		return 0
	case 0xA000:
		return fs.ModeSymlink
	case 0xC000:
		return fs.ModeSocket
	}
	return fs.ModeIrregular
}
