package ext4

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestWalk holds a walk against io/fs's own, which sorts.
func TestWalk(t *testing.T) {
	dir, files := sample(t)
	image := mkimage(t, dir, 64)
	img, err := Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	var got, want []string
	places := map[string]int{}
	if err := img.Walk(t.Context(), func(n Node) error {
		got = append(got, n.Path)
		if dir := path.Dir(n.Path); n.Path != "." {
			if n.Place != places[dir] {
				t.Errorf("%s has place %d, want %d", n.Path, n.Place, places[dir])
			}
			places[dir]++
		}
		if n.Info().Mode().IsRegular() && files[n.Path] != nil {
			r, size, err := n.Content()
			if err != nil || size != int64(len(files[n.Path])) {
				t.Fatalf("%s: %d bytes, %v", n.Path, size, err)
			}
			b := make([]byte, size)
			if k, _ := r.ReadAt(b, 0); k != len(b) || !bytes.Equal(b, files[n.Path]) {
				t.Errorf("%s: content differs", n.Path)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := fs.WalkDir(img, ".",
		func(name string, _ fs.DirEntry, err error) error { want = append(want, name); return err }); err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d names, want %d", len(got), len(want))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := img.Walk(ctx, func(Node) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("after its end: %v", err)
	}
	fsck(t, image)
}

// TestBlocksAreAccountedFor adds up who has which block, and compares with the
// superblock's count of those that nobody has.
func TestBlocksAreAccountedFor(t *testing.T) {
	for name, args := range formats {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "inline data" {
				t.Skip("mke2fs 1.47.0 gives files with holes the wrong size there")
			}
			dir, _ := sample(t)
			image := mkimage(t, dir, 64, args...)
			img, err := Open(image)
			if err != nil {
				t.Fatal(err)
			}
			defer img.Close()
			used := map[int64]bool{}
			take := func(first, n int64) {
				for b := first; b < first+n; b++ {
					used[b] = true
				}
			}
			for _, a := range img.Areas() {
				take(a.First, a.Blocks)
			}
			if err := img.Walk(t.Context(), func(n Node) error {
				ext, err := n.Extents()
				if err != nil {
					return err
				}
				own, err := n.OwnBlocks()
				if err != nil {
					return err
				}
				for _, e := range ext {
					take(e.Physical, e.Blocks)
				}
				for _, b := range own {
					take(b, 1)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			sb := img.Superblock()
			// The resize inode has one block beside the descriptors that it keeps.
			if free := sb.Blocks - sb.firstBlock - int64(len(used)); free != sb.FreeBlocks && free != sb.FreeBlocks+1 {
				t.Errorf("%d blocks are nobody's, the superblock says %d", free, sb.FreeBlocks)
			}
			fsck(t, image)
		})
	}
}

func TestFields(t *testing.T) {
	image := mkimage(t, "", 8, "-L", "label", "-U", "34308998-e7d1-50c1-ae61-6cfed28ccd12", "-O", "metadata_csum_seed")
	img, err := Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	total, got := 0, map[string]Field{}
	for _, f := range img.Fields() {
		total += len(f.Raw)
		got[f.Name] = f
	}
	if total != superblockLen || len(got) != len(superFields)+1 {
		t.Errorf("the fields have %d bytes, and %d names: does one lie over another?", total, len(got))
	}
	// dumpe2fs reads them with code of its own.
	said := tool(t, "dumpe2fs", "-h", image)
	for field, label := range map[string]string{
		"s_inodes_count": "Inode count", "s_free_blocks_count": "Free blocks", "s_uuid": "Filesystem UUID",
		"s_hash_seed":        "Directory Hash Seed",
		"s_want_extra_isize": "Desired extra isize", "s_journal_inum": "Journal inode",
		"s_checksum_seed": "Checksum seed", "s_checksum": "Checksum",
		"s_mnt_count": "Mount count", "s_first_ino": "First inode", "s_reserved_gdt_blocks": "Reserved GDT blocks",
	} {
		if want := dumped(said, label); got[field].Value() != want {
			t.Errorf("%s is %s, dumpe2fs says %s", field, got[field].Value(), want)
		}
	}
	if got["s_volume_name"].Value() != `"label"` || !strings.HasPrefix(got["s_mkfs_time"].Value(), "20") {
		t.Errorf("%v %v", got["s_volume_name"].Value(), got["s_mkfs_time"].Value())
	}
	var bits []string
	for _, f := range []string{"s_feature_compat", "s_feature_incompat", "s_feature_ro_compat"} {
		bits = append(bits, strings.Split(got[f].Bits(), ",")...)
	}
	if want := strings.Fields(dumped(said, "Filesystem features")); !slices.Equal(slices.Sorted(slices.Values(bits)),
		slices.Sorted(slices.Values(want))) {
		t.Errorf("features %v, dumpe2fs says %v", bits, want)
	}
	fsck(t, image)
}

// dumped is what dumpe2fs says of one field.
func dumped(said, label string) string {
	for line := range strings.Lines(said) {
		if v, ok := strings.CutPrefix(line, label+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func TestInodeAt(t *testing.T) {
	image := mkimage(t, "", 8)
	mark := filepath.Join(t.TempDir(), "mark")
	if err := os.WriteFile(mark, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	debugfs(t, image, "write "+mark+" f", "sif f generation 0x5A17B00C")
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	img, err := New(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	st, err := img.Stat("f")
	if err != nil {
		t.Fatal(err)
	}
	off := bytes.Index(b, []byte{0x0C, 0xB0, 0x17, 0x5A})
	num, at, ok := img.InodeAt(int64(off))
	if s := st.Sys().(*Stat); !ok || num != s.Inode || at != 0x64 || s.Generation != 0x5A17B00C {
		t.Errorf("byte %#x is %#x of inode %d, %v; want inode %d", off, at, num, ok, s.Inode)
	}
	if _, _, ok := img.InodeAt(0); ok {
		t.Error("the boot block is in no inode")
	}
	fsck(t, image)
}

// dumpe2fs pads checksums with zeros; one in sixteen begins with one.
func TestFieldChecksum(t *testing.T) {
	f := Field{Kind: Checksum, Raw: []byte{0x11, 0xbf, 0xf2, 0x06}}
	if got, want := f.Value(), "0x06f2bf11"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
