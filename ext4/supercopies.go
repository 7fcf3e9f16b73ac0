package ext4

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
)

// Offsets in a superblock (Documentation/filesystems/ext4/super.rst).
const (
	superFlags    = 0x160
	superChecksum = 0x3FC
)

// Finish writes into an image what debugfs, which writes the first superblock alone, has left out of the edits: call it
// on what Apply made, before Verify.
func Finish(f *os.File, edits []Edit) error {
	if !slices.ContainsFunc(edits, func(e Edit) bool { _, is := e.(SignedHash); return is }) {
		return nil
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	img, err := New(f, st.Size())
	if err != nil {
		return err
	}
	for off, super := range img.superCopies {
		flags := super[superFlags:]
		if le.Uint32(flags) == signedHash {
			continue
		}
		le.PutUint32(flags, signedHash)
		if img.sb.ROCompat&roMetadataCsum != 0 {
			le.PutUint32(super[superChecksum:], superSum(super))
		}
		if _, err := f.WriteAt(super, off); err != nil {
			return fmt.Errorf("write a copy of the superblock: %w", err)
		}
	}
	return nil
}

// superSum is a superblock's checksum: crc32c of all before it, without a last inversion.
func superSum(super []byte) uint32 {
	return ^crc32.Checksum(super[:superChecksum], crc32.MakeTable(crc32.Castagnoli))
}

// superCopies yields the copies of the superblock, and where they are.
func (img *Image) superCopies(yield func(off int64, super []byte) bool) {
	for g := int64(1); g < img.sb.groups(); g++ {
		if !img.hasSuper(g) {
			continue
		}
		off := (img.sb.firstBlock + g*int64(img.sb.BlocksPerGroup)) * img.sb.BlockSize
		super := make([]byte, superblockLen)
		_, err := img.r.ReadAt(super, off)
		if err != nil || le.Uint16(super[0x38:]) != superblockMagic {
			continue // a damaged image: e2fsck tells of it
		}
		if !yield(off, super) {
			return
		}
	}
}

// checkCopies is an error where a copy of the superblock says something else of the hashes than SignedHash.
func (img *Image) checkCopies() error {
	for off, super := range img.superCopies {
		if flags := le.Uint32(super[superFlags:]); flags != signedHash {
			return fmt.Errorf("the flags of its copy at %d are %#x, not %#x", off, flags, signedHash)
		}
		if img.sb.ROCompat&roMetadataCsum != 0 && le.Uint32(super[superChecksum:]) != superSum(super) {
			return errors.New("the checksum of a copy is wrong")
		}
	}
	return nil
}
