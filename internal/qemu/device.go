// Package qemu writes QEMU's command line, device by device, and speaks QMP with a QEMU
// that runs: begin with [Argv] and [Execute]. [ProbeKVM] says whether KVM can be used.
package qemu

import (
	"cmp"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/units"
)

// Device is a feature of a virtual machine. Its Args are QEMU's, with files as QEMU sees them, maybe in a container.
type Device interface{ Args() []string }

// Argv is the command line of a QEMU for an architecture with the devices, in their order, except that the user's
// own arguments come last: of most options QEMU takes the last.
func Argv(a arch.Arch, devices ...Device) []string {
	argv := []string{a.QEMU}
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

// Verbatim are the user's own arguments for QEMU.
type Verbatim []string

// Args implements Device.
func (v Verbatim) Args() []string { return v }

// Base is a machine without the user's configuration files, screen and second boot: a reboot ends QEMU. OwnRAM says
// that its RAM is [SharedMemory] or [KeptMemory].
type Base struct {
	Machine string
	OwnRAM  bool
}

// Args implements Device.
func (b Base) Args() []string {
	machine := b.Machine
	if b.OwnRAM {
		machine += ",memory-backend=" + ramID
	}
	return []string{"-M", machine, "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"}
}

// CPU is a number of processors of one model.
type CPU struct {
	Model string
	Count int
}

// Args implements Device.
func (c CPU) Args() []string {
	return []string{"-cpu", c.Model, "-smp", strconv.Itoa(max(c.Count, 1))}
}

// Memory is the guest's memory; QEMU counts it in MiB.
type Memory units.Size

// Args implements Device.
func (m Memory) Args() []string {
	return []string{"-m", mib(units.Size(m))}
}

// Kernel is a kernel image, its command line and its initramfs; empty: it has none.
type Kernel struct{ Image, Append, Initramfs string }

// Args implements Device.
func (k Kernel) Args() []string {
	args := []string{"-kernel", k.Image, "-append", k.Append}
	if k.Initramfs != "" {
		args = append(args, "-initrd", k.Initramfs)
	}
	return args
}

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

// Disk is a raw disk image. Unless Write is set, what the guest writes is thrown away.
type Disk struct {
	Image string
	Bus   Bus
	Write bool
	Over  string // what a kept guest has written to it, in qcow2; empty: nothing
}

// Args implements Device.
func (d Disk) Args() []string {
	// With snapshot=on the image is a read-only base, which several guests can share.
	drive := "if=none,id=disk,format=raw,file=" + quote(d.Image)
	if d.Over != "" { // the image's place in that file is not trusted: it may have been another one
		drive = "if=none,id=disk,format=qcow2,file=" + quote(d.Over) +
			",backing.driver=raw,backing.file.driver=file,backing.file.filename=" + quote(d.Image)
	}
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

// Serial is the first serial port, on QEMU's stdin and stdout; with Monitor, Ctrl-a is QEMU's escape key.
type Serial struct{ Monitor bool }

// Args implements Device.
func (s Serial) Args() []string {
	if s.Monitor {
		return []string{"-chardev", "stdio,id=console,mux=on,signal=off", "-serial", "chardev:console",
			"-mon", "chardev=console,mode=readline"}
	}
	return []string{"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"}
}

// Ports are virtio-serial ports, by the guest's names; QEMU listens at the Unix socket Socket(name) for each.
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

// QMP is QEMU's control socket, for [Execute].
type QMP struct{ Socket string }

// Args implements Device.
func (q QMP) Args() []string {
	return []string{"-chardev", "socket,id=qmp,server=on,wait=off,path=" + quote(q.Socket),
		"-mon", "chardev=qmp,mode=control"}
}

// GDBStub lets a gdb attach. Unless Running is set, the guest is halted before its first instruction.
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

// RNG gives the guest entropy: kernels before 5.6 wait for it at boot.
type RNG struct{}

// Args implements Device.
func (RNG) Args() []string { return []string{"-device", "virtio-rng-pci"} }

// NineP is a directory that the guest can mount by its tag. Files that the guest makes belong to whoever runs QEMU,
// with the mode that the guest gives them: security_model=none asks for no owner, and so needs no privilege;
// "mapped" would leave files that can only be read through QEMU.
type NineP struct {
	Tag, Dir string
	Write    bool
}

// Args implements Device.
func (n NineP) Args() []string {
	fsdev := "local,id=" + n.Tag + ",path=" + quote(n.Dir) + ",security_model=none,multidevs=remap"
	if !n.Write {
		fsdev += ",readonly=on"
	}
	return []string{"-fsdev", fsdev, "-device", "virtio-9p-pci,fsdev=" + n.Tag + ",mount_tag=" + n.Tag}
}

// quote escapes a value of an option list: a comma would end it.
func quote(value string) string { return strings.ReplaceAll(value, ",", ",,") }

// Accel is what executes the guest's instructions.
type Accel string

// The accelerators.
const (
	KVM Accel = "kvm" // the processor, by Linux
	HVF Accel = "hvf" // the processor, by macOS
	TCG Accel = "tcg" // QEMU's translator: everywhere, some ten times slower
)

// Title is what people call it.
func (a Accel) Title() string { return strings.ToUpper(string(a)) }

// MachineOf returns QEMU's words for the machine and the processor of an architecture's guests: -M and -cpu.
func (a Accel) MachineOf(of arch.Arch) (machine, cpu string) {
	switch a {
	case KVM:
		return cmp.Or(of.KVMMachine, of.Machine), cmp.Or(of.KVMCPU, of.CPU)
	case HVF:
		return of.Machine, "host"
	}
	return of.Machine, of.CPU
}

// Args implements Device.
func (a Accel) Args() []string {
	if a == TCG {
		return []string{"-accel", "tcg,thread=multi"}
	}
	return []string{"-accel", string(a)}
}

// ProbeKVM returns why this machine's KVM cannot run guests of an architecture, or nil. It runs code in a virtual
// machine of its own: there are machines where /dev/kvm exists and can be opened, and no guest runs on it.
func ProbeKVM(a arch.Arch) error {
	if err := isOwn(a); err != nil {
		return err
	}
	return probedKVM()
}

// ProbeOwn returns why this machine's processor cannot run guests of an architecture by [Own], or nil.
func ProbeOwn(a arch.Arch) error {
	if err := isOwn(a); err != nil {
		return err
	}
	return probeOwn()
}

func isOwn(a arch.Arch) error {
	if a.OCI != runtime.GOARCH {
		return fmt.Errorf("this machine is %s, the guest %s", runtime.GOARCH, a)
	}
	return nil
}

// probedKVM asks once: it takes a hundredth of a second.
var probedKVM = sync.OnceValue(probeKVM)

// Forward lets a port of 127.0.0.1 reach a TCP port of the guest.
type Forward struct{ Host, Guest uint16 }

// Card is the guest's network card.
type Card struct {
	Model string // QEMU's name for it
	MAC   string // empty: QEMU's choice
}

// args connect the card. Nothing boots from it: it needs no ROM (romfile=), which is often not installed.
func (c Card) args(netdev string) []string {
	device := c.Model + ",netdev=net,romfile="
	if c.MAC != "" {
		device += ",mac=" + c.MAC
	}
	return []string{"-netdev", netdev, "-device", device}
}

// UserNet is a card on QEMU's own network. The Host of a Forward is a port where QEMU runs.
type UserNet struct {
	Card
	Forwards []Forward
}

// Args implements Device.
func (n UserNet) Args() []string {
	netdev := "user,id=net"
	for _, f := range n.Forwards {
		netdev += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-:%d", f.Host, f.Guest)
	}
	return n.args(netdev)
}

// HostTAP is a card on an interface that QEMU opens.
type HostTAP struct {
	Card
	Name string
}

// Args implements Device.
func (n HostTAP) Args() []string {
	return n.args("tap,id=net,ifname=" + n.Name + ",script=no,downscript=no")
}

// FrameNet is a card whose frames go over a Unix socket of QEMU's (QEMU 7.2).
type FrameNet struct {
	Card
	Socket string
}

// Args implements Device.
func (n FrameNet) Args() []string {
	return n.args("stream,id=net,server=on,addr.type=unix,addr.path=" + quote(n.Socket))
}
