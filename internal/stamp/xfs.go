package stamp

import (
	"encoding/binary"
	"hash/crc32"
	"time"
)

// Where things are in an inode of XFS, in bytes. All numbers but the checksum are big-endian.
const (
	xfsMode, xfsFormat, xfsUID, xfsGID = 2, 5, 8, 12
	xfsSize, xfsGeneration, xfsSum     = 56, 92, 100
	xfsFlags2, xfsFork                 = 120, 176 // where the file's own data begins

	xfsLocal   = 1      // a format: the data is in the inode
	xfsBigTime = 1 << 3 // of flags2: times are nanoseconds since 1901, and else seconds and nanoseconds
)

// xfsTimes are where an inode has times: of access, modification, change and birth.
var xfsTimes = []int{32, 40, 48, 144}

// xfs is an image.
type xfs struct {
	Image
	blockSize, agBlocks, agCount int64
	sectorSize, inodeSize        int64
	agBlockLog, inodesLog        uint
	own                          []uint64 // the file system's own inodes
	marks                        *marks
	of                           []Inode
}

// XFS stamps what mkfs.xfs made of a prototype file, of which the marks are files' users. What it leaves to chance and
// the clock in inodes that are nobody's or its own goes, too.
func XFS(img Image, inodes []Inode) error {
	super := make([]byte, 512)
	if _, err := img.ReadAt(super, 0); err != nil {
		return err
	}
	be := binary.BigEndian
	if string(super[:4]) != "XFSB" || be.Uint16(super[100:])&0xf != 5 {
		return damaged("it is no XFS of version 5")
	}
	x := &xfs{Image: img, blockSize: int64(be.Uint32(super[4:])), agBlocks: int64(be.Uint32(super[84:])),
		agCount: int64(be.Uint32(super[88:])), sectorSize: int64(be.Uint16(super[102:])),
		inodeSize: int64(be.Uint16(super[104:])), inodesLog: uint(super[123]), agBlockLog: uint(super[124]),
		own:   []uint64{be.Uint64(super[64:]), be.Uint64(super[72:])}, // the real-time device's bitmap and its summary
		marks: newMarks(inodes), of: inodes}
	if x.blockSize < 1024 || x.blockSize > 64<<10 || x.inodeSize < 512 || x.inodeSize > 2048 || len(inodes) == 0 {
		return damaged("XFS's blocks have %d bytes, its inodes %d", x.blockSize, x.inodeSize)
	}
	for ag := range x.agCount {
		if err := x.group(ag); err != nil {
			return err
		}
	}
	return x.marks.all()
}

// group goes through the inodes of an allocation group.
func (x *xfs) group(ag int64) error {
	be := binary.BigEndian
	start := ag * x.agBlocks * x.blockSize
	head := make([]byte, 32)
	if _, err := x.ReadAt(head, start+2*x.sectorSize); err != nil {
		return err
	}
	if string(head[:4]) != "XAGI" {
		return damaged("XFS's group %d has no inodes", ag)
	}
	block := be.Uint32(head[20:])
	node := make([]byte, x.blockSize)
	const header, none = 56, ^uint32(0)
	for first, blocks := true, int64(0); block != none; blocks++ {
		if blocks > x.agBlocks {
			return damaged("XFS's tree of inodes goes in circles")
		}
		if _, err := x.ReadAt(node, start+int64(block)*x.blockSize); err != nil {
			return err
		}
		level, records := be.Uint16(node[4:]), int(be.Uint16(node[6:]))
		if string(node[:4]) != "IAB3" || records > (len(node)-header)/8 {
			return damaged("XFS's tree of inodes has another block in it")
		}
		if level > 0 { // down on its left side, and then along the leaves
			if !first {
				return damaged("XFS's tree of inodes is none")
			}
			block = be.Uint32(node[header+(len(node)-header)/8*4:])
			continue
		}
		first = false
		if records > (len(node)-header)/16 {
			return damaged("XFS's tree of inodes has a block of %d", records)
		}
		for i := range records {
			if err := x.chunk(ag, start, node[header+16*i:]); err != nil {
				return err
			}
		}
		block = be.Uint32(node[12:])
	}
	return nil
}

// chunk stamps 64 inodes, which a record describes: four at a time may not be there, and each may be free.
func (x *xfs) chunk(ag, start int64, record []byte) error {
	be := binary.BigEndian
	first, holes, free := be.Uint32(record), be.Uint16(record[4:]), be.Uint64(record[8:])
	inode := make([]byte, x.inodeSize)
	for i := range 64 {
		if holes>>(i/4)&1 != 0 {
			continue
		}
		number := int64(first) + int64(i)
		at := start + number*x.inodeSize
		if _, err := x.ReadAt(inode, at); err != nil {
			return err
		}
		if string(inode[:2]) != "IN" || binary.LittleEndian.Uint32(inode[xfsSum:]) != xfsChecksum(inode) {
			return damaged("XFS's inode %d is none", number)
		}
		absolute := uint64(ag)<<(x.agBlockLog+x.inodesLog) | uint64(number)
		be.PutUint32(inode[xfsGeneration:], 0)
		switch {
		case free>>i&1 != 0:
		case absolute == x.own[0] || absolute == x.own[1]:
			xfsTime(inode, x.of[0].Time)
		default:
			in, err := x.marks.take(uint64(be.Uint32(inode[xfsUID:])))
			if err == nil {
				err = xfsStamp(inode, in)
			}
			if err != nil {
				return err
			}
		}
		binary.LittleEndian.PutUint32(inode[xfsSum:], xfsChecksum(inode))
		if _, err := x.WriteAt(inode, at); err != nil {
			return err
		}
	}
	return nil
}

func xfsStamp(inode []byte, in *Inode) error {
	be := binary.BigEndian
	if was := uint32(be.Uint16(inode[xfsMode:])); was&typeMask != in.Mode&typeMask {
		return damaged("XFS's file of mode %o is to have mode %o", was, in.Mode)
	}
	be.PutUint16(inode[xfsMode:], uint16(in.Mode))
	be.PutUint32(inode[xfsUID:], in.UID)
	be.PutUint32(inode[xfsGID:], in.GID)
	xfsTime(inode, in.Time)
	if in.Mode&typeMask == symlink && inode[xfsFormat] == xfsLocal {
		if be.Uint64(inode[xfsSize:]) != uint64(len(in.Link)) || xfsFork+len(in.Link) > len(inode) {
			return damaged("XFS's link is not as long as %q", in.Link)
		}
		copy(inode[xfsFork:], in.Link)
	}
	return nil
}

func xfsTime(inode []byte, t time.Time) {
	be := binary.BigEndian
	for _, at := range xfsTimes {
		if be.Uint64(inode[xfsFlags2:])&xfsBigTime != 0 {
			be.PutUint64(inode[at:], uint64(t.Unix()+1<<31)*1e9)
		} else {
			be.PutUint64(inode[at:], uint64(t.Unix())<<32)
		}
	}
}

// xfsChecksum is an inode's, taken with zeros where it will be.
func xfsChecksum(inode []byte) uint32 {
	sum := crc32.Update(0, castagnoli, inode[:xfsSum])
	sum = crc32.Update(sum, castagnoli, make([]byte, 4))
	return crc32.Update(sum, castagnoli, inode[xfsSum+4:])
}
