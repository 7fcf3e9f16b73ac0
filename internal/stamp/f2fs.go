package stamp

import "encoding/binary"

// Where the superblock of F2FS has the names of the kernels that made it and last checked it, and how long each is.
// The kernel's include/linux/f2fs_fs.h has the layout: packed, little-endian, at 1024 in each of the first two blocks.
const (
	f2fsVersions, f2fsVersion = 1668, 256
	f2fsFeatures              = f2fsVersions + 2*f2fsVersion
	f2fsChecksummed           = 1 << 11 // a feature: the superblock has a checksum
)

// F2FS takes out of an image the version of the kernel that it was made under, which nothing but fsck.f2fs reads.
func F2FS(img Image) error {
	for _, at := range []int64{1024, 4096 + 1024} {
		super := make([]byte, f2fsFeatures+4)
		if _, err := img.ReadAt(super, at); err != nil {
			return err
		}
		if binary.LittleEndian.Uint32(super) != 0xf2f52010 ||
			binary.LittleEndian.Uint32(super[f2fsFeatures:])&f2fsChecksummed != 0 {
			return damaged("it is no F2FS without a checksum of its superblock")
		}
		if _, err := img.WriteAt(make([]byte, 2*f2fsVersion), at+f2fsVersions); err != nil {
			return err
		}
	}
	return nil
}
