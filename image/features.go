package image

import (
	"slices"

	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/units"
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
	major, minor int      // the first kernel that mounts it for writing
	suites       []string // whose own mke2fs turns it on
}{
	{"metadata_csum_seed", 4, 4, []string{"trixie", "sid"}},
	{"orphan_file", 5, 15, []string{"trixie", "sid"}},
}

// Features returns the ext4 features of a suite's root filesystem under a
// kernel: what the suite's own mke2fs turns on, less what the kernel cannot
// mount. MakeDisk names the list whole, so that no mke2fs.conf has a say.
func Features(suite archive.Suite, kernel units.KernelVersion) []string {
	features := slices.Clone(baseFeatures)
	for _, f := range newFeatures {
		if kernel.AtLeast(f.major, f.minor) && slices.Contains(f.suites, suite.Name) {
			features = append(features, f.name)
		}
	}
	return features
}
