package spec

import (
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/kernelorg"
	"github.com/kimg/kimg/internal/steps"
	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
)

// The values that Specs and Locks are made of. Each validates itself when it is read.
type (
	// Digest is a sha256 in lower-case hexadecimal; empty: none.
	Digest = units.Digest
	// Size is a number of bytes; ParseSize reads one.
	Size = units.Size
	// KernelVersion is a kernel's version, as its Makefile has it.
	KernelVersion = units.KernelVersion
	// Arch is an architecture.
	Arch = arch.Arch
	// Suite is a release of a distribution.
	Suite = suite.Suite
	// Variant says which packages a root filesystem has at the least.
	Variant = archive.Variant
	// Package is a package of an archive, pinned.
	Package = archive.Locked
	// Download is a kernel that was downloaded, and who vouched for it.
	Download = kernelorg.Verified
	// ActionID names all that a step reads, in hexadecimal.
	ActionID = steps.ActionID
)

// The variants.
const (
	Minbase  = archive.Minbase
	Standard = archive.Standard
)

// ParseSize reads a size as people write it for disks: 1G, 512M, 2GiB (powers of 1024).
func ParseSize(s string) (Size, error) { return units.ParseSize(s) }
