package image

import (
	"slices"
)

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
