package ext4

import "fmt"

const (
	xattrMagic       = 0xEA020000
	xattrBlockHeader = 32
	xattrEntry       = 16
	xattrMaxValue    = 64 << 10 // bytes, the kernel's XATTR_SIZE_MAX
)

// xattrPrefixes are the names' beginnings by e_name_index (the kernel's xattr.h).
var xattrPrefixes = map[byte]string{
	0: "", 1: "user.", 2: "system.posix_acl_access", 3: "system.posix_acl_default",
	4: "trusted.", 6: "security.", 7: "system.", 8: "system.richacl",
}

func (img *Image) xattrs(in *inode) (map[string][]byte, error) {
	out := map[string][]byte{}
	if len(in.extra) >= 4 && le.Uint32(in.extra) == xattrMagic {
		if err := img.readXattrs(out, in.extra[4:], in.extra[4:]); err != nil {
			return nil, fmt.Errorf("inode %d: %w", in.num, err)
		}
	}
	if in.acl == 0 {
		return out, nil
	}
	if in.acl < 0 || in.acl >= img.sb.Blocks {
		return nil, corrupt("inode %d has its attributes at block %d, outside", in.num, in.acl)
	}
	b := make([]byte, img.sb.BlockSize)
	if _, err := img.r.ReadAt(b, in.acl*img.sb.BlockSize); err != nil {
		return nil, fmt.Errorf("read attributes of inode %d: %w", in.num, err)
	}
	if le.Uint32(b) != xattrMagic {
		return nil, corrupt("inode %d has attributes without their magic number", in.num)
	}
	if err := img.readXattrs(out, b[xattrBlockHeader:], b); err != nil {
		return nil, fmt.Errorf("inode %d: %w", in.num, err)
	}
	return out, nil
}

// readXattrs reads entries; the values' offsets count from the beginning of values.
func (img *Image) readXattrs(out map[string][]byte, entries, values []byte) error {
	for len(entries) >= 4 && le.Uint32(entries) != 0 {
		if len(entries) < xattrEntry {
			return corrupt("a piece of an attribute")
		}
		n, index := int(entries[0]), entries[1]
		at, num, size := int64(le.Uint16(entries[2:])), le.Uint32(entries[4:]), int64(le.Uint32(entries[8:]))
		next := (xattrEntry + n + 3) &^ 3
		prefix, known := xattrPrefixes[index]
		if !known || next > len(entries) || size > xattrMaxValue {
			return corrupt("an attribute of kind %d with %d bytes", index, size)
		}
		name := prefix + string(entries[xattrEntry:xattrEntry+n])
		switch {
		case num != 0: // a large value has an inode of its own (ea_inode)
			in, err := img.inode(num)
			if err != nil {
				return err
			}
			if in.typ() != 0 || in.flags&inodeFlagInlineData != 0 || in.size != size {
				return corrupt("the value of attribute %q is not a plain file of %d bytes", name, size)
			}
			b, err := img.readAll(in, xattrMaxValue)
			if err != nil {
				return err
			}
			out[name] = b
		case size > 0 && at+size > int64(len(values)):
			return corrupt("the value of attribute %q is outside", name)
		case size > 0:
			out[name] = values[at : at+size : at+size]
		default:
			out[name] = nil
		}
		entries = entries[next:]
	}
	return nil
}
