package stamp

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"
)

// Where things are in btrfs, in bytes. All numbers are little-endian.
const (
	superAt   = 64 << 10
	superSize = 4096

	// of a node: checksum 32, fsid 16, address 8, flags 8, uuid 16, generation 8, owner 8, count 4, level 1
	headerSize = 101
	itemSize   = 25 // of a leaf's item: key 17, offset 4, size 4
	pointSize  = 33 // of a node's pointer: key 17, address 8, generation 8

	rootTree, chunkTree, filesTree = 1, 3, 5 // objects that have a tree

	inodeItem, xattrItem, dirItem, dirIndex, rootItem, chunkItem = 1, 24, 84, 96, 132, 228
)

// types of a directory's entries
var btrfsTypes = map[uint32]byte{regular: 1, dir: 2, char: 3, block: 4, fifo: 5, symlink: 7}

// btrfs is an image of one device.
type btrfs struct {
	Image
	nodeSize uint32
	chunks   []chunk
}

// chunk says where the addresses from logical on are, in one copy or several.
type chunk struct {
	logical, length uint64
	copies          []uint64
}

// Btrfs stamps what mkfs.btrfs --rootdir made, of which the marks are files' times of modification, in seconds.
func Btrfs(img Image, inodes []Inode) error {
	super := make([]byte, superSize)
	if _, err := img.ReadAt(super, superAt); err != nil {
		return err
	}
	le := binary.LittleEndian
	if string(super[64:72]) != "_BHRfS_M" || le.Uint16(super[196:]) != 0 {
		return damaged("it is no btrfs with checksums of crc32c")
	}
	b := &btrfs{Image: img, nodeSize: le.Uint32(super[148:])}
	if b.nodeSize < 4096 || b.nodeSize > 64<<10 {
		return damaged("btrfs's nodes have %d bytes", b.nodeSize)
	}
	// The system's chunks are in the superblock: the others' are in a tree that these have.
	array := super[811:]
	n := le.Uint32(super[160:])
	if n > 2048 {
		return damaged("btrfs's superblock has %d bytes of chunks", n)
	}
	for array = array[:n]; len(array) > 17; {
		used, err := b.chunk(array[:17], array[17:])
		if err != nil {
			return err
		}
		array = array[17+used:]
	}
	if err := b.walk(le.Uint64(super[88:]), func(leaf []byte, at func(int) []byte) (bool, error) {
		for i := range items(leaf) {
			if key := keyOf(leaf, i); key[8] == chunkItem {
				if _, err := b.chunk(key, at(i)); err != nil {
					return false, err
				}
			}
		}
		return false, nil
	}); err != nil {
		return err
	}
	files := uint64(0)
	if err := b.walk(le.Uint64(super[80:]), func(leaf []byte, at func(int) []byte) (bool, error) {
		for i := range items(leaf) {
			key := keyOf(leaf, i)
			if item := at(i); le.Uint64(key) == filesTree && key[8] == rootItem && len(item) >= 184 {
				files = le.Uint64(item[176:])
			}
		}
		return false, nil
	}); err != nil {
		return err
	}
	if files == 0 {
		return damaged("btrfs has no tree of files")
	}
	return b.stamp(files, newMarks(inodes))
}

// stamp writes what the tree of files is to have.
func (b *btrfs) stamp(files uint64, m *marks) error {
	le := binary.LittleEndian
	types := map[uint64]byte{} // by inode number
	if err := b.walk(files, func(leaf []byte, at func(int) []byte) (bool, error) {
		for i := range items(leaf) {
			key, item := keyOf(leaf, i), at(i)
			if key[8] != inodeItem {
				continue
			}
			if len(item) < 160 {
				return false, damaged("an inode of btrfs has %d bytes", len(item))
			}
			in, err := m.take(le.Uint64(item[136:]))
			if err != nil {
				return false, err
			}
			types[le.Uint64(key)] = btrfsTypes[in.Mode&typeMask]
			le.PutUint32(item[44:], in.UID)
			le.PutUint32(item[48:], in.GID)
			le.PutUint32(item[52:], in.Mode)
			le.PutUint64(item[56:], deviceNumber(in))
			for _, t := range []int{112, 124, 136, 148} { // of access, change, modification, birth
				le.PutUint64(item[t:], uint64(in.Time.Unix()))
				le.PutUint32(item[t+8:], 0)
			}
		}
		return true, nil
	}); err != nil {
		return err
	}
	if err := m.all(); err != nil {
		return err
	}
	return b.walk(files, func(leaf []byte, at func(int) []byte) (bool, error) {
		for i := range items(leaf) {
			key, item := keyOf(leaf, i), at(i)
			if !slices.Contains([]byte{dirItem, dirIndex, xattrItem}, key[8]) {
				continue
			}
			for len(item) >= 30 { // several names with one hash share an item
				size := 30 + int(le.Uint16(item[25:])) + int(le.Uint16(item[27:]))
				if size > len(item) {
					return false, damaged("a directory's entry of btrfs is cut off")
				}
				if key[8] == xattrItem {
					clear(item[17:25]) // a transaction's number, which mkfs.btrfs leaves to chance
				} else if typ, ok := types[le.Uint64(item)]; ok && item[8] == inodeItem {
					item[29] = typ
				}
				item = item[size:]
			}
		}
		return true, nil
	})
}

// deviceNumber is how the kernel has a device in memory, which btrfs writes: new_encode_dev is not asked.
func deviceNumber(in *Inode) uint64 {
	if t := in.Mode & typeMask; t != char && t != block {
		return 0
	}
	return uint64(in.Major)<<20 | uint64(in.Minor)
}

// chunk takes a chunk's item, and says how long it is.
func (b *btrfs) chunk(key, item []byte) (int, error) {
	le := binary.LittleEndian
	if len(item) < 48 {
		return 0, damaged("a chunk of btrfs is cut off")
	}
	n := 48 + 32*int(le.Uint16(item[44:]))
	if n > len(item) || n == 48 {
		return 0, damaged("a chunk of btrfs is cut off")
	}
	c := chunk{logical: le.Uint64(key[9:]), length: le.Uint64(item)}
	for at := 48; at < n; at += 32 {
		c.copies = append(c.copies, le.Uint64(item[at+8:]))
	}
	b.chunks = append(b.chunks, c)
	return n, nil
}

// where are the copies of an address.
func (b *btrfs) where(logical uint64) (copies []int64, err error) {
	for _, c := range b.chunks {
		if logical >= c.logical && logical-c.logical < c.length {
			for _, at := range c.copies {
				copies = append(copies, int64(at+logical-c.logical))
			}
			return copies, nil
		}
	}
	return nil, damaged("btrfs has no chunk with the address %d", logical)
}

// maxLevel is BTRFS_MAX_LEVEL.
const maxLevel = 8

// walk hands each leaf of a tree to do, with the content of its items. Where do has changed it, it is written back.
func (b *btrfs) walk(root uint64, do func(leaf []byte, at func(int) []byte) (changed bool, err error)) error {
	return b.walkNode(root, maxLevel, do)
}

func (b *btrfs) walkNode(address uint64, below byte, do func([]byte, func(int) []byte) (bool, error)) error {
	le := binary.LittleEndian
	copies, err := b.where(address)
	if err != nil {
		return err
	}
	node, other := make([]byte, b.nodeSize), make([]byte, b.nodeSize)
	for i, at := range copies {
		if _, err := b.ReadAt(other, at); err != nil {
			return err
		}
		if i > 0 && !bytes.Equal(node, other) {
			return damaged("the copies of a node of btrfs differ")
		}
		copy(node, other)
	}
	sum := func() uint32 { return crc32.Checksum(node[32:], castagnoli) }
	level := node[100]
	switch {
	case le.Uint64(node[48:]) != address || le.Uint32(node) != sum():
		return damaged("a node of btrfs is not where it should be, or has another checksum")
	case level >= below:
		return damaged("a node of btrfs is on level %d, below one on level %d", level, below)
	case level > 0:
		n := int(le.Uint32(node[96:]))
		if n > (len(node)-headerSize)/pointSize {
			return damaged("a node of btrfs has %d pointers", n)
		}
		for i := range n {
			if err := b.walkNode(le.Uint64(node[headerSize+i*pointSize+17:]), level, do); err != nil {
				return err
			}
		}
		return nil
	}
	if items(node) > (len(node)-headerSize)/itemSize {
		return damaged("a leaf of btrfs has %d items", items(node))
	}
	for i := range items(node) {
		at, size := le.Uint32(node[headerSize+i*itemSize+17:]), le.Uint32(node[headerSize+i*itemSize+21:])
		if uint64(at)+uint64(size) > uint64(len(node)-headerSize) {
			return damaged("an item of btrfs leaves its leaf")
		}
	}
	changed, err := do(node, func(i int) []byte {
		at, size := le.Uint32(node[headerSize+i*itemSize+17:]), le.Uint32(node[headerSize+i*itemSize+21:])
		return node[headerSize+at : headerSize+at+size]
	})
	if err != nil || !changed {
		return err
	}
	le.PutUint32(node, sum())
	for _, at := range copies {
		if _, err := b.WriteAt(node, at); err != nil {
			return err
		}
	}
	return nil
}

func items(leaf []byte) int { return int(binary.LittleEndian.Uint32(leaf[96:])) }

func keyOf(leaf []byte, i int) []byte { return leaf[headerSize+i*itemSize:][:17] }
