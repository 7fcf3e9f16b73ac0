// Package artifact names the files that a build leaves in its out directory. Each name is written once, here.
package artifact

import (
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"regexp"

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

// ArchOf is the architecture of the artifacts in a directory, by their vmlinux, or, as a guest boots without that, by
// what the kernel was configured with; the default where neither says it.
func ArchOf(dir string) arch.Arch {
	// e_ident and e_type are before e_machine, all architectures of kimg's are little-endian.
	if head := headOf(filepath.Join(dir, Vmlinux), 20); len(head) == 20 && string(head[:4]) == elf.ELFMAG {
		if a, ok := arch.OfELF(elf.Machine(binary.LittleEndian.Uint16(head[18:]))); ok {
			return a
		}
	}
	if m := configuredRE.FindSubmatch(headOf(filepath.Join(dir, Config), 256)); m != nil {
		a, _ := arch.OfKernel(string(m[1]))
		return a.Or()
	}
	return arch.Default
}

// configuredRE is how kconfig heads a .config: "# Linux/arm64 6.12.117 Kernel Configuration".
var configuredRE = regexp.MustCompile(`(?m)^# Linux/(\w+) \S+ Kernel Configuration$`)

// headOf is how a file begins, of n bytes at most; nil where it cannot be read.
func headOf(name string, n int64) []byte {
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	head, err := io.ReadAll(io.LimitReader(f, n))
	if err != nil {
		return nil
	}
	return head
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
