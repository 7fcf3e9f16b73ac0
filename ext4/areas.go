package ext4

import (
	"cmp"
	"slices"
)

// Area is a piece of an image that is the file system's own and no file's, in blocks.
type Area struct {
	First, Blocks int64
	What          string
}

// What areas are.
const (
	SuperArea   = "superblock"
	DescArea    = "group descriptors"
	BitmapArea  = "bitmaps"
	TableArea   = "inode tables"
	JournalArea = "journal"
	OrphanArea  = "orphan file"
)

const (
	compatHasJournal   = 0x0004
	compatSparseSuper2 = 0x0200
	compatOrphanFile   = 0x1000
	roSparseSuper      = 0x0001
	roMetadataCsum     = 0x0400
)

// Areas are the file system's own areas by their first block. They may overlap
// in an image that is damaged. The special inodes that cannot be read have none.
func (img *Image) Areas() []Area {
	sb := img.sb
	desc := (sb.groups()*sb.descSize+sb.BlockSize-1)/sb.BlockSize + int64(le.Uint16(img.super[0xCE:]))
	var out []Area
	add := func(first, n int64, what string) {
		if first >= 0 && first < sb.Blocks {
			out = append(out, Area{first, min(n, sb.Blocks-first), what})
		}
	}
	for g := range sb.groups() {
		if !img.hasSuper(g) {
			continue
		}
		first := sb.firstBlock + g*int64(sb.BlocksPerGroup)
		add(first, 1, SuperArea)
		add(first+1, desc, DescArea)
	}
	table := (int64(sb.InodesPerGroup)*int64(sb.InodeSize) + sb.BlockSize - 1) / sb.BlockSize
	for _, b := range img.groups {
		add(b, table, TableArea)
	}
	for _, b := range img.maps {
		add(b, 1, BitmapArea)
	}
	special := func(num uint32, what string) {
		in, err := img.inode(num)
		if err != nil {
			return
		}
		own, ext, err := img.extentsOf(in)
		if err != nil {
			return
		}
		for _, b := range own {
			add(b, 1, what)
		}
		for _, e := range ext {
			if e.Physical != 0 {
				add(e.Physical, e.Blocks, what)
			}
		}
	}
	if sb.Compat&compatHasJournal != 0 {
		special(le.Uint32(img.super[0xE0:]), JournalArea)
	}
	if sb.Compat&compatOrphanFile != 0 {
		special(le.Uint32(img.super[0x280:]), OrphanArea)
	}
	slices.SortFunc(out, func(a, b Area) int { return cmp.Compare(a.First, b.First) })
	return out
}

// hasSuper reports whether a group begins with a copy of the superblock (the kernel's ext4_bg_has_super).
func (img *Image) hasSuper(g int64) bool {
	switch {
	case g == 0:
		return true
	case img.sb.Compat&compatSparseSuper2 != 0:
		return g == int64(le.Uint32(img.super[0x24C:])) || g == int64(le.Uint32(img.super[0x250:]))
	case g <= 1 || img.sb.ROCompat&roSparseSuper == 0:
		return true
	}
	for _, base := range []int64{3, 5, 7} {
		n := base
		for n < g {
			n *= base
		}
		if n == g {
			return true
		}
	}
	return false
}

// InodeAt returns which inode a byte of the image is in, and where in it. ok is false outside of the inode tables.
func (img *Image) InodeAt(off int64) (num uint32, at int, ok bool) {
	size := int64(img.sb.InodeSize)
	for g, table := range img.groups {
		if rest := off - table*img.sb.BlockSize; rest >= 0 && rest < size*int64(img.sb.InodesPerGroup) {
			return uint32(int64(g)*int64(img.sb.InodesPerGroup) + rest/size + 1), int(rest % size), true
		}
	}
	return 0, 0, false
}

// OwnBlocks are the blocks of a node beside its Extents: of its map and of its attributes.
func (n Node) OwnBlocks() ([]int64, error) {
	own, _, err := n.blocks()
	if n.in.acl > 0 && n.in.acl < n.img.sb.Blocks {
		own = append(own, n.in.acl)
	}
	return own, err
}
