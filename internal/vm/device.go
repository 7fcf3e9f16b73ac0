package vm

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/kimg/kimg/internal/units"
)

// Device is one feature of a virtual machine. Its Args are QEMU's, and name
// files as the place where QEMU runs sees them.
type Device interface{ Args() []string }

// Argv is the command line of a QEMU that has the devices, in their order, but
// that the person's own words come last: QEMU takes the last of most.
func Argv(devices ...Device) []string {
	argv := []string{"qemu-system-x86_64"}
	var last []string
	for _, d := range devices {
		if own, ok := d.(Verbatim); ok {
			last = append(last, own...)
			continue
		}
		argv = append(argv, d.Args()...)
	}
	return append(argv, last...)
}

// Verbatim is what the person wants QEMU to be told, as it is.
type Verbatim []string

// Args implements Device.
func (v Verbatim) Args() []string { return v }

// Base is a PC with nothing but what the other devices add: no configuration
// of the person's, no screen, no second boot (a panic reboots, see panic=-1).
type Base struct{}

// Args implements Device.
func (Base) Args() []string {
	return []string{"-M", "pc", "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"}
}

// Accel is what executes the guest's instructions.
type Accel string

// The accelerators.
const (
	KVM Accel = "kvm" // the processor
	TCG Accel = "tcg" // QEMU's translator: everywhere, some ten times slower
)

// Args implements Device.
func (a Accel) Args() []string {
	if a == TCG {
		return []string{"-accel", "tcg,thread=multi"}
	}
	return []string{"-accel", string(a)}
}

// CPU is a number of processors, with all that the accelerator can do but
// five-level page tables: no guest of this size gains by them, and TCG walks
// them on every miss.
type CPU struct{ Count int }

// Args implements Device.
func (c CPU) Args() []string {
	return []string{"-cpu", "max,la57=off", "-smp", strconv.Itoa(max(c.Count, 1))}
}

// Memory is the guest's memory; QEMU counts it in MiB.
type Memory units.Size

// Args implements Device.
func (m Memory) Args() []string {
	return []string{"-m", strconv.FormatInt((int64(m)+1<<20-1)>>20, 10) + "M"}
}

// Kernel is a bzImage and its command line.
type Kernel struct{ Image, Append string }

// Args implements Device.
func (k Kernel) Args() []string { return []string{"-kernel", k.Image, "-append", k.Append} }

// Bus is how a disk is attached.
type Bus string

// The buses, by what the kernel must have built in.
const (
	VirtioBus Bus = "virtio" // VIRTIO_PCI, VIRTIO_BLK
	IDEBus    Bus = "ide"    // ATA_PIIX
	AHCIBus   Bus = "ahci"   // SATA_AHCI
)

// Root is the disk's device in the guest.
func (b Bus) Root() string {
	if b == VirtioBus {
		return "/dev/vda"
	}
	return "/dev/sda"
}

// Disk is a raw disk image. Unless Write, what the guest writes is thrown away.
type Disk struct {
	Image string
	Bus   Bus
	Write bool
}

// Args implements Device.
func (d Disk) Args() []string {
	// QEMU would lock a writable image alone; a read-only base lets many guests share it.
	drive := "if=none,id=disk,format=raw,file=" + quote(d.Image)
	if !d.Write {
		drive += ",snapshot=on"
	}
	switch d.Bus {
	case VirtioBus:
		return []string{"-drive", drive, "-device", "virtio-blk-pci,drive=disk"}
	case AHCIBus:
		return []string{"-drive", drive, "-device", "ahci,id=ahci", "-device", "ide-hd,drive=disk,bus=ahci.0"}
	}
	return []string{"-drive", drive, "-device", "ide-hd,drive=disk,bus=ide.0"}
}

// Serial is the first serial port, on QEMU's stdin and stdout. With Monitor,
// Ctrl-a is QEMU's own: Ctrl-a x ends it, Ctrl-a c is its monitor.
type Serial struct{ Monitor bool }

// Args implements Device.
func (s Serial) Args() []string {
	if s.Monitor {
		return []string{"-chardev", "stdio,id=console,mux=on,signal=off", "-serial", "chardev:console",
			"-mon", "chardev=console,mode=readline"}
	}
	return []string{"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"}
}

// Ports are virtio-serial ports, by the names that the guest knows them by. Each
// is a Unix socket of QEMU's that listens at Socket(name).
type Ports struct {
	Names  []string
	Socket func(name string) string
}

// Args implements Device.
func (p Ports) Args() []string {
	args := []string{"-device", "virtio-serial-pci"}
	for i, name := range p.Names {
		id := fmt.Sprintf("port%d", i)
		args = append(args, "-chardev", "socket,id="+id+",server=on,wait=off,path="+quote(p.Socket(name)),
			"-device", "virtserialport,chardev="+id+",name="+name)
	}
	return args
}

// QMP is QEMU's control socket.
type QMP struct{ Socket string }

// Args implements Device.
func (q QMP) Args() []string {
	return []string{"-chardev", "socket,id=qmp,server=on,wait=off,path=" + quote(q.Socket),
		"-mon", "chardev=qmp,mode=control"}
}

// GDBStub lets a gdb attach. Unless Running, the guest waits for it, halted before
// its first instruction.
type GDBStub struct {
	Socket  string
	Running bool
}

// Args implements Device.
func (g GDBStub) Args() []string {
	args := []string{"-chardev", "socket,id=gdb,server=on,wait=off,path=" + quote(g.Socket), "-gdb", "chardev:gdb"}
	if !g.Running {
		args = append(args, "-S")
	}
	return args
}

// RNG gives the guest randomness: kernels before 5.6 wait for it at boot.
type RNG struct{}

// Args implements Device.
func (RNG) Args() []string { return []string{"-device", "virtio-rng-pci"} }

// quote writes a value of an option list, where a comma would end it.
func quote(value string) string { return strings.ReplaceAll(value, ",", ",,") }
