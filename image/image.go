// Package image makes the root filesystem of a suite and the disk image that a
// kernel boots: packages that were verified go in, a normalised tar comes out of
// Bootstrap, and MakeDisk turns that tar into an ext4 image. Nothing is mounted,
// on the host or in a container. It must not know where packages come from, nor
// what a kernel is beyond its version: the builder hands it both.
package image

import (
	"io"

	"github.com/kimg/kimg/internal/units"
)

// Hostname is every guest's name. It is fixed, so that an image does not tell
// which machine it was made on.
const Hostname = "kimg"

// RootLabel is the label of the root filesystem. /etc/fstab finds the root by it
// and not by a device, so the same image boots from virtio, AHCI and IDE.
const RootLabel = "kimg-root"

// Packages opens the content of a package by its digest. The store does it, and
// verifies while it reads: a mismatch is an error at the end of the stream.
type Packages interface {
	Open(d units.Digest) (io.ReadCloser, error)
}
