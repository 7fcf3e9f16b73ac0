package ext4

import (
	"fmt"
	"io"
	"io/fs"
)

// run is a piece of a file that lies in one piece on the disk. What no run covers is a hole and reads as zeros.
type run struct {
	logical, n int64 // blocks of the file
	physical   int64 // 0: allocated but never written; reads as zeros
}

const (
	extentMagic    = 0xF30A
	extentEntry    = 12    // bytes of a header, an index and an extent
	extentMaxDepth = 5     // enough for any file (the kernel's EXT4_MAX_EXTENT_DEPTH)
	extentMaxLen   = 32768 // blocks; a larger length is a shorter, unwritten extent

	directBlocks = 12
)

// runs returns where a file's blocks are, in the order of the file.
func (img *Image) runs(in *inode) ([]run, error) {
	m := mapper{img: img, in: in, seen: map[int64]bool{}}
	var err error
	if in.flags&inodeFlagExtents != 0 {
		err = m.extents(in.block[:], -1)
	} else {
		err = m.indirect()
	}
	if err != nil {
		return nil, fmt.Errorf("inode %d: %w", in.num, err)
	}
	return m.out, nil
}

// mapper walks one file's block map. seen holds the map's own blocks: none is
// read twice, so the walk ends however the map is tangled.
type mapper struct {
	img  *Image
	in   *inode
	seen map[int64]bool
	out  []run
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

func (m *mapper) add(r run) error {
	if r.physical != 0 && (r.physical < m.img.sb.firstBlock || r.n > m.img.sb.Blocks-r.physical) {
		return corrupt("its block %d is at %d, outside", r.logical, r.physical)
	}
	if k := len(m.out); k > 0 {
		last := &m.out[k-1]
		if r.logical < last.logical+last.n {
			return corrupt("its map has block %d twice or out of order", r.logical)
		}
		if r.logical == last.logical+last.n && r.physical != 0 && last.physical != 0 &&
			r.physical == last.physical+last.n {
			last.n += r.n
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
		r := run{logical: logical, n: int64(le.Uint16(e[4:])),
			physical: int64(le.Uint32(e[8:])) | int64(le.Uint16(e[6:]))<<32}
		if r.n > extentMaxLen {
			r.n, r.physical = r.n-extentMaxLen, 0
		} else if r.physical == 0 {
			return corrupt("its block %d is at 0", logical)
		}
		if r.n == 0 {
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
	return m.add(run{logical: *logical - 1, n: 1, physical: p})
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
	runs []run
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
	runs, err := img.runs(in)
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
	for _, r := range c.runs[c.first(off/bs):] {
		from, to := max(off, r.logical*bs), min(off+int64(len(p)), (r.logical+r.n)*bs)
		if r.logical*bs >= off+int64(len(p)) {
			break
		}
		if r.physical == 0 || from >= to {
			continue
		}
		if _, err := c.img.r.ReadAt(p[from-off:to-off], r.physical*bs+from-r.logical*bs); err != nil {
			return 0, err
		}
	}
	return len(p), end
}

// first is the index of the first run that ends behind a block.
func (c *content) first(block int64) int {
	lo, hi := 0, len(c.runs)
	for lo < hi {
		if mid := (lo + hi) / 2; c.runs[mid].logical+c.runs[mid].n <= block {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
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
