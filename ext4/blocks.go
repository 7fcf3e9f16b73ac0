package ext4

import (
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
)

const (
	extentMagic    = 0xF30A
	extentEntry    = 12    // bytes of a header, an index and an extent
	extentMaxDepth = 5     // enough for any file (the kernel's EXT4_MAX_EXTENT_DEPTH)
	extentMaxLen   = 32768 // blocks; a larger length is a shorter, unwritten extent

	directBlocks = 12
)

// extentsOf returns where a file's blocks are, in the order of the file, and the blocks of its map.
func (img *Image) extentsOf(in *inode) (own []int64, ext []Extent, err error) {
	m := mapper{img: img, in: in, seen: map[int64]bool{}}
	if in.flags&inodeFlagExtents != 0 {
		err = m.extents(in.block[:], -1)
	} else {
		err = m.indirect()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("inode %d: %w", in.num, err)
	}
	return slices.Collect(maps.Keys(m.seen)), m.out, nil
}

// mapper walks one file's block map. No block of the map (seen) is read twice: the walk ends.
type mapper struct {
	img  *Image
	in   *inode
	seen map[int64]bool
	out  []Extent
}

func (m *mapper) read(block int64) ([]byte, error) {
	if block <= 0 || block >= m.img.sb.Blocks {
		return nil, corrupt("its map is at block %d, outside", block)
	}
	if m.seen[block] {
		return nil, corrupt("its map uses block %d twice", block)
	}
	m.seen[block] = true
	b := make([]byte, m.img.sb.BlockSize)
	_, err := m.img.r.ReadAt(b, block*m.img.sb.BlockSize)
	return b, err
}

func (m *mapper) add(r Extent) error {
	if r.Physical != 0 && (r.Physical < m.img.sb.firstBlock || r.Blocks > m.img.sb.Blocks-r.Physical) {
		return corrupt("its block %d is at %d, outside", r.Logical, r.Physical)
	}
	if k := len(m.out); k > 0 {
		last := &m.out[k-1]
		if r.Logical < last.Logical+last.Blocks {
			return corrupt("its map has block %d twice or out of order", r.Logical)
		}
		if r.Logical == last.Logical+last.Blocks && r.Physical != 0 && last.Physical != 0 &&
			r.Physical == last.Physical+last.Blocks {
			last.Blocks += r.Blocks
			return nil
		}
	}
	if int64(len(m.out)) >= m.img.sb.Blocks { // no block is in a file twice
		return corrupt("it has more pieces than there are blocks")
	}
	m.out = append(m.out, r)
	return nil
}

// extents reads one node of an extent tree. depth is what its parent promised.
func (m *mapper) extents(b []byte, depth int) error {
	entries, d := int(le.Uint16(b[2:])), int(le.Uint16(b[6:]))
	switch {
	case le.Uint16(b) != extentMagic:
		return corrupt("its extent tree has no magic number")
	case d > extentMaxDepth || depth >= 0 && d != depth:
		return corrupt("its extent tree has depth %d where %d was promised", d, depth)
	case (entries+1)*extentEntry > len(b):
		return corrupt("%d extents in a node of %d bytes", entries, len(b))
	}
	for i := range entries {
		e := b[(i+1)*extentEntry:]
		logical := int64(le.Uint32(e))
		if d > 0 {
			node, err := m.read(int64(le.Uint32(e[4:])) | int64(le.Uint16(e[8:]))<<32)
			if err != nil {
				return err
			}
			if err := m.extents(node, d-1); err != nil {
				return err
			}
			continue
		}
		r := Extent{Logical: logical, Blocks: int64(le.Uint16(e[4:])),
			Physical: int64(le.Uint32(e[8:])) | int64(le.Uint16(e[6:]))<<32}
		if r.Blocks > extentMaxLen {
			r.Blocks, r.Physical = r.Blocks-extentMaxLen, 0
		} else if r.Physical == 0 {
			return corrupt("its block %d is at 0", logical)
		}
		if r.Blocks == 0 {
			return corrupt("an extent without blocks")
		}
		if err := m.add(r); err != nil {
			return err
		}
	}
	return nil
}

// indirect reads the map of ext2 and ext3: twelve blocks, then trees of one, two and three levels.
func (m *mapper) indirect() error {
	logical := int64(0)
	for i := range directBlocks {
		if err := m.leaf(&logical, m.in.block[4*i:]); err != nil {
			return err
		}
	}
	for level := 1; level <= 3; level++ {
		if err := m.tree(&logical, le.Uint32(m.in.block[4*(directBlocks+level-1):]), level); err != nil {
			return err
		}
	}
	return nil
}

func (m *mapper) leaf(logical *int64, b []byte) error {
	p := int64(le.Uint32(b))
	*logical++
	if p == 0 {
		return nil
	}
	return m.add(Extent{Logical: *logical - 1, Blocks: 1, Physical: p})
}

func (m *mapper) tree(logical *int64, block uint32, level int) error {
	per := m.img.sb.BlockSize / 4
	if block == 0 {
		covers := int64(1)
		for range level {
			covers *= per
		}
		*logical += covers
		return nil
	}
	b, err := m.read(int64(block))
	if err != nil {
		return err
	}
	for i := range per {
		if level == 1 {
			err = m.leaf(logical, b[4*i:])
		} else {
			err = m.tree(logical, le.Uint32(b[4*i:]), level-1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// content reads a file's bytes. It is an io.ReaderAt.
type content struct {
	img  *Image
	size int64
	runs []Extent
	mem  []byte // the bytes of a file that lies in its inode
}

func (img *Image) open(in *inode) (*content, error) {
	if in.flags&inodeFlagEncrypted != 0 {
		return nil, fmt.Errorf("inode %d is encrypted", in.num)
	}
	if in.flags&inodeFlagInlineData != 0 {
		b, err := img.inline(in)
		return &content{img: img, size: int64(len(b)), mem: b}, err
	}
	_, runs, err := img.extentsOf(in)
	return &content{img: img, size: in.size, runs: runs}, err
}

// inline returns the bytes of a file that lies in its inode: the block map's room, then the attribute system.data.
func (img *Image) inline(in *inode) ([]byte, error) {
	x, err := img.xattrs(in)
	if err != nil {
		return nil, err
	}
	b := append(in.block[:len(in.block):len(in.block)], x["system.data"]...)
	if in.size > int64(len(b)) {
		return nil, corrupt("inode %d says %d bytes and has %d in it", in.num, in.size, len(b))
	}
	return b[:in.size], nil
}

// ReadAt reads holes as zeros.
func (c *content) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	if off >= c.size {
		return 0, io.EOF
	}
	var end error
	if rest := c.size - off; int64(len(p)) > rest {
		p, end = p[:rest], io.EOF
	}
	if c.mem != nil {
		return copy(p, c.mem[off:]), end
	}
	clear(p)
	bs := c.img.sb.BlockSize
	first, _ := slices.BinarySearchFunc(c.runs, off/bs, func(r Extent, block int64) int {
		return cmp.Compare(r.Logical+r.Blocks, block+1) // the first that ends behind the block
	})
	for _, r := range c.runs[first:] {
		from, to := max(off, r.Logical*bs), min(off+int64(len(p)), (r.Logical+r.Blocks)*bs)
		if r.Logical*bs >= off+int64(len(p)) {
			break
		}
		if r.Physical == 0 || from >= to {
			continue
		}
		if _, err := c.img.r.ReadAt(p[from-off:to-off], r.Physical*bs+from-r.Logical*bs); err != nil {
			return 0, err
		}
	}
	return len(p), end
}

func (img *Image) readAll(in *inode, limit int64) ([]byte, error) {
	if in.size > limit {
		return nil, fmt.Errorf("inode %d has %d bytes, more than the %d that are read at once", in.num, in.size, limit)
	}
	c, err := img.open(in)
	if err != nil {
		return nil, err
	}
	b := make([]byte, c.size)
	if n, err := c.ReadAt(b, 0); err != nil && (err != io.EOF || n < len(b)) {
		return nil, err
	}
	return b, nil
}
