// Package artifact names the files that a build leaves in its out directory. Each name is written once, here.
package artifact

import (
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"

	"github.com/kimg/kimg/internal/arch"
)

// The files that a build makes, whatever the architecture; the kernel image is the architecture's: KernelImage.
const (
	Vmlinux    = "vmlinux"        // the kernel with its debug information
	SystemMap  = "System.map"     // its symbols
	Config     = "config"         // what it was configured with
	Modules    = "modules.tar"    // its stripped modules, where it has any
	ModulesDir = "modules"        // directory of its modules with their debug information
	GDBLoader  = "vmlinux-gdb.py" // what gdb loads beside vmlinux
	GDBScripts = "scripts/gdb"    // directory of the kernel's own scripts for gdb
	Disk       = "rootfs.img"     // the disk image with the root filesystem
	Initramfs  = "rootfs.cpio.gz" // the root filesystem in its place, for a guest without a disk
)

// The files that describe a build.
const (
	Lock       = "kimg.lock"
	Manifest   = "manifest.json"
	Provenance = "provenance.json"
	Signature  = "provenance.intoto.jsonl"
	SBOM       = "sbom.spdx.json"
)

// ArchOf is the architecture of the artifacts in a directory, by their vmlinux; the default where that does not say it.
func ArchOf(dir string) arch.Arch {
	f, err := os.Open(filepath.Join(dir, Vmlinux))
	if err != nil {
		return arch.Default
	}
	defer f.Close()
	head := make([]byte, 20) // e_ident and e_type are before e_machine, all architectures of kimg's are little-endian
	if _, err := io.ReadFull(f, head); err != nil || string(head[:4]) != elf.ELFMAG {
		return arch.Default
	}
	a, _ := arch.OfELF(elf.Machine(binary.LittleEndian.Uint16(head[18:])))
	return a.Or()
}

// KernelImage is the name of the bootable kernel.
func KernelImage(a arch.Arch) string { return a.Image }

// Kernel are the files of a kernel that is there whatever it was configured with.
func Kernel(a arch.Arch) []string {
	return []string{KernelImage(a), Vmlinux, SystemMap, Config}
}

// Documents are the files that describe a build to other tools.
func Documents() []string { return []string{Provenance, SBOM} }

// TopLevel are the files at the top of an out directory that a build may write, but the lock and the signature.
func TopLevel(a arch.Arch) []string {
	return append(append(Kernel(a), GDBLoader, Modules, Disk, Initramfs, Manifest), Documents()...)
}
