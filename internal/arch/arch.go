// Package arch names the architectures that guests may have, and what each of the worlds around a guest calls them:
// the package archive, the kernel's build, QEMU, gdb, container registries and libvirt. Code that needs one of
// these words asks here; adding an architecture is a row in this file and what CONTRIBUTING lists. It must not know
// what an engine or a kernel tree is.
package arch

import (
	"cmp"
	"debug/elf"
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

	Console  string // the serial console's device, without /dev/: ttyS0
	ConsoleY string // the kernel's option for it: SERIAL_8250_CONSOLE
	Cmdline  int    // COMMAND_LINE_SIZE of its kernels, in bytes with the final zero

	HardwareBreaks int // how many hardware breakpoints a processor has at the least

	QEMU    string // the program: qemu-system-x86_64
	Machine string // -M
	CPU     string // -cpu
	// KVMMachine and KVMCPU are the same with KVM, where that is another.
	KVMMachine, KVMCPU string
	GDB                string // the gdb that knows its processors, on amd64: see GDBOn
	// Start is the physical address of the kernel's first instruction on that machine; 0: vmlinux says it.
	Start uint64

	UsrLinks     string // the directories of a root that are links into /usr: "bin lib lib64 sbin"
	QEMUPackages string // Debian's packages of QEMU and the firmware of its machine, and of gdb
	Firmware     string // of QEMU's files, what its machine cannot do without; a * is any text. Empty: what all have
	Emulator     string // the program of Debian's qemu-user that runs its programs elsewhere
	// Exit42 are the instructions of exit(42): what shows that a machine runs its programs.
	Exit42 string

	Triplet string // GNU's, of its compilers: x86_64-linux-gnu
	ELF     elf.Machine
	// Abs64 and Abs32 are the ELF relocations that are an address, of 8 and of 4 bytes; 0: there is more to it.
	Abs64, Abs32 uint32
	OCI          string // platform.architecture of an OCI image, GOARCH's words
	Libvirt      string // <os><type arch=...>

	Recorded Recorded
}

// Recorded is what it takes for QEMU to record an architecture's guests, besides what it takes for all. The zero value:
// they cannot be recorded.
type Recorded struct {
	Port   string // the device of the serial port beside the console's, without /dev/: ttyS1
	Driver string // the kernel's option for it: SERIAL_8250
	Device string // QEMU's, that the port is; empty: the machine has it, where a second -serial asks for it
	Timer  string // the kernel's word for doing without a timer that makes logs large; empty: there is none such
	ROMs   string // of QEMU's files, what its guests run or read
	Global string // the properties of QEMU's devices that are set: "driver.property=value"
	HPET   bool   // the machine has that timer, and is to have none
	// Onward says that QEMU does not get the machine back from a state that it kept: replays go forwards alone.
	Onward bool
	Why    bool // kimg why reads its instructions
}

// AMD64 is x86-64.
var AMD64 = Arch{
	Name:   "amd64",
	Kernel: "x86_64", SourceDir: "x86", Image: "bzImage", ImagePath: "arch/x86/boot/bzImage",
	Console: "ttyS0", ConsoleY: "SERIAL_8250_CONSOLE", Cmdline: 2048, HardwareBreaks: 4,
	QEMU: "qemu-system-x86_64", Machine: "pc", GDB: "gdb",
	// Without la57, five-level page tables: no guest gains by them, and TCG walks them on every miss.
	CPU: "max,la57=off",
	// debootstrap's functions, setup_merged_usr. Packages up to Debian 12 still carry files below these.
	UsrLinks: "bin lib lib32 lib64 libx32 sbin",
	// The last for e1000 and virtio-net, which ask for its ROMs.
	QEMUPackages: "qemu-system-x86 seabios ipxe-qemu", Emulator: "qemu-x86_64",
	Exit42:  "\xb8\x3c\x00\x00\x00\xbf\x2a\x00\x00\x00\x0f\x05", // mov eax, 60; mov edi, 42; syscall
	Triplet: "x86_64-linux-gnu", ELF: elf.EM_X86_64,
	Abs64: uint32(elf.R_X86_64_64), Abs32: uint32(elf.R_X86_64_32), OCI: "amd64", Libvirt: "x86_64",
	Recorded: Recorded{
		Port: "ttyS1", Driver: "SERIAL_8250",
		// The calibration of the local APIC's timer alone makes a log twenty times as large.
		Timer: "noapictimer",
		ROMs: "/usr/share/seabios/bios-256k.bin /usr/share/qemu/kvmvapic.bin " +
			"/usr/share/qemu/linuxboot_dma.bin",
		// Loading a snapshot would wait for the processor, and the processor for the replay's lock (vapic_post_load).
		Global: "apic-common.vapic=off",
		// After a state was loaded it may miss a tick (QEMU 10.0), and the replay then hangs.
		HPET: true,
		Why:  true,
	},
}

// ARM64 is aarch64, on QEMU's machine virt: its RAM begins at 1 GiB, and the kernel is 2 MiB above that.
var ARM64 = Arch{
	Name:   "arm64",
	Kernel: "arm64", SourceDir: "arm64", Image: "Image", ImagePath: "arch/arm64/boot/Image",
	Console: "ttyAMA0", ConsoleY: "SERIAL_AMBA_PL011_CONSOLE", Cmdline: 2048,
	HardwareBreaks: 4, // ID_AA64DFR0_EL1.BRPs of a cortex-a72 says 6; 2 is the least that there may be
	QEMU:           "qemu-system-aarch64", Machine: "virt", GDB: "gdb-multiarch", Start: 0x4020_0000,
	// A processor that every kernel and suite knows; "max" spends much of its time on pointer authentication.
	CPU: "cortex-a72",
	// KVM has the processor of the machine, and its interrupt controller, alone.
	KVMMachine: "virt,gic-version=host", KVMCPU: "host",
	UsrLinks:     "bin lib sbin",
	QEMUPackages: "qemu-system-arm ipxe-qemu gdb-multiarch", Emulator: "qemu-aarch64",
	Exit42:  "\xa8\x0b\x80\xd2\x40\x05\x80\xd2\x01\x00\x00\xd4", // mov x8, 93; mov x0, 42; svc 0
	Triplet: "aarch64-linux-gnu", ELF: elf.EM_AARCH64,
	Abs64: uint32(elf.R_AARCH64_ABS64), Abs32: uint32(elf.R_AARCH64_ABS32), OCI: "arm64", Libvirt: "aarch64",
	Recorded: Recorded{Port: "ttyAMA1", Driver: "SERIAL_AMBA_PL011"}, // the machine's since QEMU 9.1
}

// RISCV64 is 64-bit RISC-V, on QEMU's machine virt: its RAM begins at 2 GiB, with OpenSBI, and the kernel is 2 MiB
// above that.
var RISCV64 = Arch{
	Name:   "riscv64",
	Kernel: "riscv", SourceDir: "riscv", Image: "Image", ImagePath: "arch/riscv/boot/Image",
	Console: "ttyS0", ConsoleY: "SERIAL_8250_CONSOLE", Cmdline: 1024, HardwareBreaks: 2,
	QEMU: "qemu-system-riscv64", Machine: "virt", GDB: "gdb-multiarch", Start: 0x8020_0000,
	CPU:          "rv64",
	UsrLinks:     "bin lib sbin",
	QEMUPackages: "qemu-system-riscv opensbi ipxe-qemu gdb-multiarch", Firmware: "/usr/share/qemu/opensbi-*",
	Emulator: "qemu-riscv64",
	Exit42:   "\x93\x08\xd0\x05\x13\x05\xa0\x02\x73\x00\x00\x00", // li a7, 93; li a0, 42; ecall
	Triplet:  "riscv64-linux-gnu", ELF: elf.EM_RISCV, OCI: "riscv64", Libvirt: "riscv64",
	Recorded: Recorded{Port: "ttyS1", Driver: "SERIAL_8250_PCI", Device: "pci-serial",
		ROMs: "/usr/share/qemu/opensbi-riscv64-generic-fw_dynamic.bin",
		// QEMU 10.0 has neither the processor's timer nor what its clock counts from in a state; 10.2 has.
		Onward: true},
}

// PPC64EL is 64-bit little-endian POWER, on QEMU's machine pseries: its firmware lets the kernel go where there is
// room, and the kernel then moves itself.
var PPC64EL = Arch{
	Name:   "ppc64el",
	Kernel: "powerpc", SourceDir: "powerpc", Image: "zImage", ImagePath: "arch/powerpc/boot/zImage",
	Console: "hvc0", ConsoleY: "HVC_CONSOLE", Cmdline: 2048,
	HardwareBreaks: 1, // a POWER9 has one, CIABR; QEMU's emulation has no limit
	// Without the machine's cures of Spectre and Meltdown, which TCG warns that it has not.
	QEMU: "qemu-system-ppc64", Machine: "pseries,cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off",
	CPU: "POWER9", GDB: "gdb-multiarch", // libvirt's name; QEMU's is power9, and it takes capitals
	UsrLinks:     "bin lib lib64 sbin",
	QEMUPackages: "qemu-system-ppc ipxe-qemu gdb-multiarch", Firmware: "/usr/share/qemu/slof*",
	Emulator: "qemu-ppc64le",
	Exit42:   "\x01\x00\x00\x38\x2a\x00\x60\x38\x02\x00\x00\x44", // li r0, 1; li r3, 42; sc
	Triplet:  "powerpc64le-linux-gnu", ELF: elf.EM_PPC64,
	Abs64: uint32(elf.R_PPC64_ADDR64), Abs32: uint32(elf.R_PPC64_ADDR32), OCI: "ppc64le", Libvirt: "ppc64le",
}

// Default is the architecture of whoever names none, on every machine.
var Default = AMD64

// All are the architectures that guests may have.
var All = []Arch{AMD64, ARM64, RISCV64, PPC64EL}

// Engines are the architectures of container engines that kimg has images for.
var Engines = []Arch{AMD64, ARM64}

// Parse returns the architecture of that name, which is Debian's.
func Parse(name string) (Arch, error) {
	if i := slices.IndexFunc(All, func(a Arch) bool { return a.Name == name }); i >= 0 {
		return All[i], nil
	}
	for _, a := range All {
		gnu, _, _ := strings.Cut(a.Triplet, "-")
		others := []string{a.Kernel, a.SourceDir, a.OCI, a.Libvirt, gnu, a.Triplet}
		if slices.Contains(others, strings.ToLower(name)) || strings.EqualFold(name, a.Name) {
			return Arch{}, fmt.Errorf("unknown architecture %q: Debian's name of it is %s", name, a.Name)
		}
	}
	return Arch{}, fmt.Errorf("unknown architecture %q: want %s", name, strings.Join(Names(), ", "))
}

// Names are the names of all architectures.
func Names() []string {
	var names []string
	for _, a := range All {
		names = append(names, a.Name)
	}
	return names
}

// OfELF returns the architecture of an ELF file.
func OfELF(m elf.Machine) (Arch, bool) {
	i := slices.IndexFunc(All, func(a Arch) bool { return a.ELF == m })
	if i < 0 {
		return Arch{}, false
	}
	return All[i], true
}

// OfKernel returns the architecture of the word that the kernel's build or its .config have for it: x86, x86_64.
func OfKernel(word string) (Arch, bool) {
	i := slices.IndexFunc(All, func(a Arch) bool { return a.Kernel == word || a.SourceDir == word })
	if i < 0 {
		return Arch{}, false
	}
	return All[i], true
}

// Or is a, or the default where that is none.
func (a Arch) Or() Arch { return cmp.Or(a, Default) }

// GDBOn is the gdb that knows the architecture's processors on a machine of another, or the same, one, which is named
// in the words of GOARCH; "" is the default.
func (a Arch) GDBOn(machine string) string {
	if a.OCI == cmp.Or(machine, Default.OCI) {
		return a.GDB
	}
	return "gdb-multiarch"
}

// Package is the part of Debian's cross compilers' names that names the architecture: "x86-64-linux-gnu".
func (a Arch) Package() string { return strings.ReplaceAll(a.Triplet, "_", "-") }

// String is the architecture's name.
func (a Arch) String() string { return a.Name }

// MarshalText writes the name.
func (a Arch) MarshalText() ([]byte, error) { return []byte(a.Name), nil }

// UnmarshalText reads a name that Parse knows.
func (a *Arch) UnmarshalText(b []byte) (err error) {
	*a, err = Parse(string(b))
	return err
}
