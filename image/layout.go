package image

import (
	"fmt"
	"slices"
)

// The layout of every root filesystem. Fixed here and named to mke2fs, so that no default of its own has a say.
const (
	blockSize      = 4096 // bytes; also the unit of "blocks" below
	inodeSize      = 256  // bytes
	bytesPerInode  = 16384
	blocksPerGroup = 8 * blockSize // one bitmap block's worth
	descSize       = 64            // bytes of a group descriptor with 64bit
	flexGroups     = 16            // mke2fs's own default of -G
	orphanBlocks   = 512           // the most that orphan_file takes
	reservedInodes = 12            // 1 to 10, lost+found, and the orphan file
)

// spareInodes and spareBytes are what a guest gets beyond its tree, at the least:
// room to boot, write a log and try something.
const (
	spareInodes = 2048
	spareBytes  = 16 << 20
)

// SizeError says that a tree does not fit a disk.
type SizeError struct {
	Size Size // what was asked for
	Need Size // the smallest that would do
}

func (e *SizeError) Error() string {
	return fmt.Sprintf("the root filesystem does not fit %s: it needs at least %s", e.Size, e.Need)
}

// Hint says what gives it more.
func (e *SizeError) Hint() string {
	return fmt.Sprintf("give it more with --size %s, or have the size follow from the files with --size min", e.Need)
}

// layout is how a disk of some size is laid out.
type layout struct {
	blocks  int64
	inodes  int64
	journal int64 // blocks
}

// layoutOf gives a disk an inode for every 16 KiB, as mke2fs does, or more where the tree has many small files.
func layoutOf(size Size, tree treeSize) layout {
	l := layout{blocks: int64(size) / blockSize}
	l.inodes = max(int64(size)/bytesPerInode, tree.inodes+tree.inodes/10+spareInodes)
	// Whole blocks of inodes in every group; mke2fs rounds up just so.
	perGroup := (l.inodes + l.groups() - 1) / l.groups()
	perGroup = (perGroup + 15) / 16 * 16
	l.inodes = min(perGroup, blocksPerGroup) * l.groups()
	// A journal of 1/64, between 4 MiB (the least that mke2fs makes) and 64 MiB.
	l.journal = min(max(l.blocks/64, 1024), 16384)
	return l
}

func (l layout) groups() int64 { return (l.blocks + blocksPerGroup - 1) / blocksPerGroup }

// overhead is what the file system takes for itself, in blocks.
func (l layout) overhead() int64 {
	g := l.groups()
	desc := (g*descSize + blockSize - 1) / blockSize
	// mke2fs reserves descriptors to grow 1024-fold, at most a block of pointers.
	reserved := min(desc*1024, blockSize/4)
	supers := int64(0)
	for i := range g {
		if i == 0 || i == 1 || power(i, 3) || power(i, 5) || power(i, 7) { // sparse_super
			supers++
		}
	}
	tables := l.inodes * inodeSize / blockSize
	return supers*(1+desc+reserved) + 2*g + tables + l.journal + orphanBlocks + 1 + flexGroups
}

func power(n, base int64) bool {
	for n%base == 0 {
		n /= base
	}
	return n == 1
}

// fits reports whether a disk has room for a tree and for a guest's life in it.
func fits(size Size, tree treeSize) bool {
	l := layoutOf(size, tree)
	return l.blocks > 0 && tree.inodes+spareInodes <= l.inodes &&
		l.overhead()+tree.blocks+tree.blocks/100+spareBytes/blockSize <= l.blocks
}

// fit returns nil, or the SizeError for a tree that does not fit.
func fit(size Size, tree treeSize) error {
	if fits(size, tree) {
		return nil
	}
	return &SizeError{Size: size, Need: smallest(size, tree)}
}

// smallest is the size of the smallest disk of at least from, in whole MiB, that a tree fits.
func smallest(from Size, tree treeSize) Size {
	const step = 1 << 20
	size := max(step, from, Size(tree.blocks)*blockSize) / step * step
	for !fits(size, tree) {
		size += step
	}
	return size
}

// baseFeatures are ext4's since long before the oldest kernel that kimg builds
// (4.18): each of mke2fs 1.44's defaults, bionic's, and nothing else.
var baseFeatures = []string{
	"has_journal", "ext_attr", "resize_inode", "dir_index", "filetype", "extent", "64bit", "flex_bg",
	"sparse_super", "large_file", "huge_file", "dir_nlink", "extra_isize", "metadata_csum",
}

// newFeatures came later: each needs a kernel that mounts it and a suite whose
// e2fsck knows it, or the guest's own check of its root fails at boot.
var newFeatures = []struct {
	name         string
	major, minor int // the first kernel that mounts it for writing
}{
	{"metadata_csum_seed", 4, 4},
	{"orphan_file", 5, 15},
}

// Features returns the ext4 features of a suite's root filesystem under a kernel: what the suite's own mke2fs turns
// on, less what the kernel cannot mount. MakeDisk names the list whole, so that no mke2fs.conf has a say.
func Features(s Suite, kernel KernelVersion) []string {
	features := slices.Clone(baseFeatures)
	for _, f := range newFeatures {
		if kernel.AtLeast(f.major, f.minor) && slices.Contains(s.Ext4, f.name) {
			features = append(features, f.name)
		}
	}
	return features
}
