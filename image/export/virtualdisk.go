package export

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"

	"github.com/google/uuid"
)

// VHD is the disk image as Hyper-V and Azure take it, one that grows ("dynamic"). qemu-img dates its footer and draws
// an identity for it: both are made to follow from the build.
type VHD struct{ Bootable bool }

// The footer of a VHD is its last sector, and of one that grows its first, too (Microsoft's "Virtual Hard Disk Image
// Format Specification", Hard Disk Footer Format).
const (
	vhdFooter   = 512
	vhdCookie   = "conectix"
	vhdTime     = 24 // seconds since 2000
	vhdChecksum = 64 // the complement of the sum of all bytes, but for the checksum's own
	vhdID       = 68
	vhdEpoch    = 946684800 // 2000-01-01 in seconds since 1970
)

// Export implements Format.
func (v VHD) Export(ctx context.Context, b *Build, w io.Writer) error {
	args := []string{"-o", "subformat=dynamic,force_size=on"}
	return convert(ctx, b, v.Bootable, "vpc", args, false, func(r io.Reader, size int64) error {
		for _, part := range []struct {
			n      int64
			footer bool
		}{{vhdFooter, true}, {size - 2*vhdFooter, false}, {vhdFooter, true}} {
			if !part.footer {
				if _, err := io.CopyN(w, r, part.n); err != nil {
					return err
				}
				continue
			}
			footer := make([]byte, vhdFooter)
			if _, err := io.ReadFull(r, footer); err != nil {
				return err
			}
			if err := sameVHD(footer, b); err != nil {
				return err
			}
			if _, err := w.Write(footer); err != nil {
				return err
			}
		}
		return nil
	})
}

// sameVHD gives a footer the build's time, and an identity that follows from the build.
func sameVHD(footer []byte, b *Build) error {
	if !bytes.HasPrefix(footer, []byte(vhdCookie)) {
		return errors.New("qemu-img made a VHD without a footer where it should be")
	}
	be := binary.BigEndian
	be.PutUint32(footer[vhdTime:], uint32(max(0, b.Epoch.Unix()-vhdEpoch)))
	id := b.id("vhd")
	copy(footer[vhdID:], id[:])
	be.PutUint32(footer[vhdChecksum:], 0)
	sum := uint32(0)
	for _, x := range footer {
		sum += uint32(x)
	}
	be.PutUint32(footer[vhdChecksum:], ^sum)
	return nil
}

// VMDK is the disk image as VMware and VirtualBox take it, in one file that grows ("monolithicSparse"). qemu-img draws
// its content's identity: that is made to follow from the build.
type VMDK struct{ Bootable bool }

// The header of a sparse VMDK says where its descriptor is, in sectors (VMware's "Virtual Disk Format 5.0", Hosted
// Sparse Extent Header).
const (
	vmdkMagic      = "KDMV"
	vmdkDescriptor = 28
	vmdkHeader     = 512
	vmdkSector     = 512
	vmdkMost       = 1 << 20 // bytes before the end of a descriptor: qemu-img's is in the first 11 KiB
)

// vmdkCID is the identity in a descriptor; what has another one is taken for another disk's content.
var vmdkCID = regexp.MustCompile(`(?m)^CID=[0-9a-f]{1,8}$`)

// Export implements Format.
func (v VMDK) Export(ctx context.Context, b *Build, w io.Writer) error {
	args := []string{"-o", "subformat=monolithicSparse,adapter_type=lsilogic"}
	return convert(ctx, b, v.Bootable, "vmdk", args, true, func(r io.Reader, _ int64) error {
		head := make([]byte, vmdkHeader)
		if _, err := io.ReadFull(r, head); err != nil {
			return err
		}
		le := binary.LittleEndian
		at := le.Uint64(head[vmdkDescriptor:]) * vmdkSector
		end := at + le.Uint64(head[vmdkDescriptor+8:])*vmdkSector
		if !bytes.HasPrefix(head, []byte(vmdkMagic)) || at < vmdkHeader || end <= at || end > vmdkMost {
			return errors.New("qemu-img made a VMDK without a descriptor where it should be")
		}
		head = append(head, make([]byte, end-vmdkHeader)...)
		if _, err := io.ReadFull(r, head[vmdkHeader:]); err != nil {
			return err
		}
		if err := sameVMDK(head[at:end], b); err != nil {
			return err
		}
		if _, err := w.Write(head); err != nil {
			return err
		}
		_, err := io.Copy(w, r)
		return err
	})
}

// sameVMDK gives a descriptor, which is filled up with zeros, an identity that follows from the build.
func sameVMDK(descriptor []byte, b *Build) error {
	text := bytes.TrimRight(descriptor, "\x00")
	if len(vmdkCID.FindAll(text, 2)) != 1 {
		return errors.New("qemu-img made a VMDK whose content has no identity, or two")
	}
	id := b.id("vmdk")
	same := vmdkCID.ReplaceAll(text, fmt.Appendf(nil, "CID=%08x", binary.BigEndian.Uint32(id[:])|1<<31))
	if len(same) > len(descriptor) {
		return errors.New("qemu-img made a VMDK whose descriptor is full")
	}
	clear(descriptor[copy(descriptor, same):])
	return nil
}

// id is an identity that follows from the build: from the digests of its artifacts.
func (b *Build) id(of string) uuid.UUID {
	all := of
	for _, f := range b.Files {
		all += "\n" + f.Path + " " + f.SHA256
	}
	return uuid.NewSHA1(idSpace, []byte(all))
}

// idSpace is the name space of the exports' version 5 UUIDs (RFC 9562 5.5).
var idSpace = uuid.MustParse("0b3c7a54-7d1f-5c8e-9f6a-6b696d672d64")
