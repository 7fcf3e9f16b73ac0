package export

import (
	"encoding/binary"
	"fmt"

	"github.com/kimg/kimg/ext4"
)

// The two forms of an access control list: ext4's own on the disk (the kernel's fs/ext4/acl.h) leaves out the ids
// of entries that have none; the one that getxattr(2) gives and setxattr(2) takes
// (include/uapi/linux/posix_acl_xattr.h) has an id in every entry.
const (
	aclDiskVersion = 1
	aclUserVersion = 2
	aclUser        = 0x02
	aclGroup       = 0x08
	aclNoID        = 0xFFFFFFFF
)

// aclForUsers turns the first into the second.
func aclForUsers(b []byte) ([]byte, error) {
	le := binary.LittleEndian
	if len(b) < 4 || le.Uint32(b) != aclDiskVersion {
		return nil, fmt.Errorf("%w: an access control list of an unknown form", ext4.ErrCorrupt)
	}
	out := le.AppendUint32(nil, aclUserVersion)
	for b = b[4:]; len(b) > 0; {
		if len(b) < 4 {
			return nil, fmt.Errorf("%w: a piece of an access control list", ext4.ErrCorrupt)
		}
		tag, id := le.Uint16(b), uint32(aclNoID)
		out = append(out, b[:4]...) // tag and permissions
		b = b[4:]
		if tag == aclUser || tag == aclGroup {
			if len(b) < 4 {
				return nil, fmt.Errorf("%w: a piece of an access control list", ext4.ErrCorrupt)
			}
			id, b = le.Uint32(b), b[4:]
		}
		out = le.AppendUint32(out, id)
	}
	return out, nil
}
