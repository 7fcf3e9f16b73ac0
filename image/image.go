// Package image makes the root filesystem of a suite, and the disk image of it that a kernel boots. A [Maker] does it
// in containers: [Maker.Bootstrap] turns verified packages into the tar of a tree, [WithModules] adds a kernel's
// modules to it, and [Maker.MakeDisk] makes an ext4 image from it:
//
//	m := image.Maker{Engine: eng, Imaging: "sha256:..."}
//	err := m.MakeDisk(ctx, image.DiskSpec{Size: 1 << 30, ...}, tree, "rootfs.img")
//
// Nothing is mounted, on the host or in a container, and the same inputs give the same bytes. [Normalise], which takes
// out of a tree's tar what two runs would not have in common, can be used by itself.
//
// Where packages come from is the caller's affair, and of a kernel this package knows the version alone.
package image

import (
	"errors"
	"io"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/form"
	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
)

// Types that kimg's packages share.
type (
	// Suite is a release of Debian or Ubuntu; ParseSuite returns one.
	Suite = suite.Suite
	// Arch is an architecture that guests may have; ParseArch returns one.
	Arch = arch.Arch
	// Variant is a set of packages that debootstrap starts from.
	Variant = archive.Variant
	// Package names one package file exactly.
	Package = archive.Locked
	// Digest is a sha256 in lower-case hexadecimal.
	Digest = units.Digest
	// Size is a number of bytes. It reads and writes itself as text: 512M, 1G.
	Size = units.Size
	// KernelVersion is a version of kernel.org's.
	KernelVersion = units.KernelVersion
	// Form is what a root filesystem is made as; ParseForm returns one. The zero value is ext4.
	Form = form.Form
)

// The variants.
const (
	Minbase  = archive.Minbase
	Standard = archive.Standard
)

// Initramfs is the form without a disk: the kernel unpacks it into memory.
const Initramfs = form.Initramfs

// ParseForm returns the form of the name of a file system, such as "squashfs".
func ParseForm(name string) (Form, error) { return form.Parse(name) }

// ParseSuite returns the suite of a codename, such as "trixie".
func ParseSuite(name string) (Suite, error) { return suite.Parse(name) }

// ParseArch returns the architecture that Debian calls so, such as "amd64".
func ParseArch(name string) (Arch, error) { return arch.Parse(name) }

// Hostname is every guest's name. It is fixed, so that an image does not tell which machine it was made on.
const Hostname = "kimg"

// RootLabel is the label of the root filesystem. /etc/fstab finds the root by it
// and not by a device, so the same image boots from virtio, AHCI and IDE.
const RootLabel = "kimg-root"

// Maker makes root filesystems and disk images in containers.
type Maker struct {
	Engine  container.Engine
	Imaging string    // the container image with debootstrap and e2fsprogs
	Log     io.Writer // gets what these print; nil drops it

	// Emulation is how to run the programs of another architecture; empty: the first way that works.
	Emulation Emulation

	// Emulated gets what runs the programs of another architecture, in words, where Bootstrap has to; nil drops it.
	Emulated func(by string)

	Warn func(string) // gets a line for the user; nil drops it
}

func (m Maker) warn(text string) {
	if m.Warn != nil {
		m.Warn(text)
	}
}

func (m Maker) log() io.Writer {
	if m.Log == nil {
		return io.Discard
	}
	return m.Log
}

// Packages opens the content of a package by its digest, and verifies it while it is read: a mismatch is an error at
// the end of the stream.
type Packages interface {
	Open(d Digest) (io.ReadCloser, error)
}

// Tree opens the tar of a tree. It may be called more than once.
type Tree func() (io.ReadCloser, error)

// read opens the tar for f and closes it.
func (t Tree) read(f func(io.Reader) error) error {
	r, err := t()
	if err != nil {
		return err
	}
	return errors.Join(f(r), r.Close())
}
