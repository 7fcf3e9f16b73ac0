package image

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
)

func TestFeatures(t *testing.T) {
	old, v414, new612 := units.KernelVersion{Major: 4, Minor: 20, Patch: 6}, units.KernelVersion{Major: 4,
		Minor: 3}, units.KernelVersion{Major: 6, Minor: 12}
	for _, c := range []struct {
		suite  string
		kernel units.KernelVersion
		extra  string
	}{
		{"bionic", old, ""}, {"bionic", new612, ""}, {"bullseye", new612, ""}, {"bookworm", new612, ""},
		{"trixie", old, "metadata_csum_seed"}, {"trixie", v414, ""}, {"trixie", new612,
			"metadata_csum_seed,orphan_file"},
	} {
		s, err := suite.Parse(c.suite)
		if err != nil {
			t.Fatal(err)
		}
		got := Features(s, c.kernel)
		if !slices.Equal(got[:len(baseFeatures)], baseFeatures) ||
			strings.Join(got[len(baseFeatures):], ",") != c.extra {
			t.Errorf("%s %s: %v", c.suite, c.kernel, got)
		}
	}
}

func TestFitNamesTheSmallestSize(t *testing.T) {
	small := treeSize{inodes: 8000, blocks: 60000}
	if err := fit(1<<30, small); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		size units.Size
		tree treeSize
	}{
		{128 << 20, small},
		{1 << 30, treeSize{inodes: 1000, blocks: 1 << 20}},    // large files
		{256 << 20, treeSize{inodes: 400000, blocks: 400000}}, // small ones
		{64 << 20, treeSize{inodes: 2e6, blocks: 10}},         // nothing but inodes
		{1 << 20, treeSize{inodes: 10, blocks: 10}},
	} {
		var e *SizeError
		if err := fit(c.size, c.tree); !errors.As(err, &e) {
			t.Errorf("%v in %s: %v", c.tree, c.size, err)
			continue
		}
		if e.Need <= c.size || !fits(e.Need, c.tree) || fits(e.Need-(1<<20), c.tree) {
			t.Errorf("%v in %s: needs %s", c.tree, c.size, e.Need)
		}
		if got := smallest(0, c.tree); got != e.Need {
			t.Errorf("%v: the smallest is %s, and one of %s needs %s", c.tree, got, c.size, e.Need)
		}
		if !strings.Contains(e.Error(), e.Need.String()) {
			t.Errorf("%v", e)
		}
	}
}

func TestMkfsArgs(t *testing.T) {
	spec := DiskSpec{
		Size: 1 << 30, UUID: uuid.MustParse("6b696d67-0000-4000-8000-000000000001"),
		HashSeed: uuid.MustParse("6b696d67-0000-4000-8000-000000000002"),
		Epoch:    epoch, Features: []string{"extent", "64bit"},
	}
	got := strings.Join(mkfsArgs(spec, layoutOf(spec.Size, treeSize{inodes: 8000, blocks: 60000})), " ")
	want := "mke2fs -q -F -t ext4 -T default -L kimg-root -U 6b696d67-0000-4000-8000-000000000001 -b 4096 -I 256 -N " +
		"65536 -g 32768 -G 16 " +
		"-J size=16 -m 0 -e remount-ro -O none,extent,64bit " +
		"-E hash_seed=6b696d67-0000-4000-8000-000000000002,lazy_itable_init=0,lazy_journal_init=0," +
		"root_owner=0:0,nodiscard " +
		"-d - disk.img 262144"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
