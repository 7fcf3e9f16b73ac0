// Package arch names the architectures that guests may have, and what each of the worlds around a guest calls them:
// the package archive, the kernel's build, QEMU, gdb, container registries and libvirt. Code that needs one of
// these words asks here; adding an architecture is a row in this file and what CONTRIBUTING lists. It must not know
// what an engine or a kernel tree is.
package arch

import (
	"fmt"
	"slices"
	"strings"
)

// Arch is an architecture. Two values are the same architecture if they are equal; the zero value is none.
type Arch struct {
	Name string // Debian's, and the one that users write: amd64

	Kernel    string // ARCH of the kernel's make: x86_64
	SourceDir string // its directory under arch/ of a kernel tree, Kconfig's SRCARCH: x86
	Image     string // the kernel image as make's target and as an artifact: bzImage
	ImagePath string // where make puts it, relative to the object directory

	Console string // the serial console's device, without /dev/: ttyS0
	Cmdline int    // COMMAND_LINE_SIZE of its kernels, in bytes with the final zero

	HardwareBreaks int // how many hardware breakpoints a processor has

	QEMU    string // the program: qemu-system-x86_64
	Machine string // -M
	CPU     string // -cpu, emulated or not

	UsrLinks     string // the directories of a root that are links into /usr: "bin lib lib64 sbin"
	QEMUPackages string // Debian's packages of QEMU and the firmware of its machine

	OCI     string // platform.architecture of an OCI image, GOARCH's words
	Libvirt string // <os><type arch=...>
}

// AMD64 is x86-64.
var AMD64 = Arch{
	Name:   "amd64",
	Kernel: "x86_64", SourceDir: "x86", Image: "bzImage", ImagePath: "arch/x86/boot/bzImage",
	Console: "ttyS0", Cmdline: 2048, HardwareBreaks: 4,
	QEMU: "qemu-system-x86_64", Machine: "pc",
	// Without la57, five-level page tables: no guest gains by them, and TCG walks them on every miss.
	CPU: "max,la57=off",
	// debootstrap's functions, setup_merged_usr. Packages up to Debian 12 still carry files below these.
	UsrLinks: "bin lib lib32 lib64 libx32 sbin",
	// The last for e1000 and virtio-net, which ask for its ROMs.
	QEMUPackages: "qemu-system-x86 seabios ipxe-qemu",
	OCI:          "amd64", Libvirt: "x86_64",
}

// Default is the architecture of whoever names none, on every machine.
var Default = AMD64

// All are the architectures that guests may have.
var All = []Arch{AMD64}

// Parse returns the architecture of that name, which is Debian's.
func Parse(name string) (Arch, error) {
	if i := slices.IndexFunc(All, func(a Arch) bool { return a.Name == name }); i >= 0 {
		return All[i], nil
	}
	var names []string
	for _, a := range All {
		names = append(names, a.Name)
	}
	return Arch{}, fmt.Errorf("unknown architecture %q: want %s", name, strings.Join(names, ", "))
}

// String is the architecture's name.
func (a Arch) String() string { return a.Name }

// MarshalText writes the name.
func (a Arch) MarshalText() ([]byte, error) { return []byte(a.Name), nil }

// UnmarshalText reads a name that Parse knows.
func (a *Arch) UnmarshalText(b []byte) (err error) {
	*a, err = Parse(string(b))
	return err
}
