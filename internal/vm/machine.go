package vm

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/form"
	"github.com/kimg/kimg/internal/guest"
	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/terminal"
	"github.com/kimg/kimg/internal/units"
)

// Machine is a guest's machine: everything that QEMU's command line says. Argv writes it.
type Machine struct {
	Arch   arch.Arch
	Accel  []qemu.Accel // QEMU uses the first that works
	Memory units.Size
	RAM    qemu.Device // that has the memory, for a guest that is kept or was; nil: QEMU's own
	CPUs   int

	Dir    string // the directory of the artifacts, as QEMU sees it
	Kernel Cmdline
	Form   form.Form // of the root filesystem, which is in Dir
	Disk   string    // the image, in Dir; empty: there is none
	Bus    qemu.Bus
	Write  bool   // to the image
	Over   string // what a kept guest has written to it; empty: nothing

	Card   qemu.Device // the network card; nil: none
	Shares []qemu.NineP
	Serial qemu.Serial
	QMP    string        // QEMU's control socket; empty: none
	More   []qemu.Device // whatever else it has
	QEMU   []string      // the user's own arguments
}

// Argv is QEMU's command line. Devices get their addresses by their order.
func (m Machine) Argv() []string {
	var last qemu.Accel // its machine suits those before it, too
	if len(m.Accel) > 0 {
		last = m.Accel[len(m.Accel)-1]
	}
	machine, cpu := last.MachineOf(m.Arch)
	devices := []qemu.Device{qemu.Base{Machine: machine, OwnRAM: m.RAM != nil}}
	for _, a := range m.Accel {
		devices = append(devices, a)
	}
	devices = append(devices, qemu.RNG{})
	if m.QMP != "" {
		devices = append(devices, qemu.QMP{Socket: m.QMP})
	}
	ram := m.RAM
	if ram == nil {
		ram = qemu.Memory(m.Memory)
	}
	kernel := qemu.Kernel{Image: m.Dir + "/" + artifact.KernelImage(m.Arch), Append: m.Kernel.String()}
	if !m.Form.OnDisk() {
		kernel.Initramfs = m.Dir + "/" + m.Form.File()
	}
	devices = append(devices, qemu.CPU{Model: cpu, Count: m.CPUs}, ram, kernel)
	if m.Form.OnDisk() {
		devices = append(devices, qemu.Disk{Image: m.Dir + "/" + m.Disk, Bus: m.Bus, Write: m.Write, Over: m.Over})
	}
	if m.Card != nil {
		devices = append(devices, m.Card)
	}
	for _, share := range m.Shares {
		devices = append(devices, share)
	}
	devices = append(append(devices, m.Serial), m.More...)
	return qemu.Argv(m.Arch, append(devices, qemu.Verbatim(m.QEMU))...)
}

// CardModel is QEMU's name for the network card; empty: there is none.
func (m Machine) CardModel() string {
	if user, ok := m.Card.(qemu.UserNet); ok {
		return user.Model
	}
	return ""
}

// Cmdline is the kernel's command line. Besides the fields it has:
//
//   - panic=-1: a panic reboots at once, and with -no-reboot that ends QEMU. Not where
//     KeepPanics is set, for gdb
//   - nokaslr: gdb finds the kernel where vmlinux says it is
//   - no_timer_check, of x86: the kernel counts ticks early in its boot, and panics ("IO-APIC +
//     timer doesn't work") when an emulator on a busy machine delivers too few
//
// Extra comes last, as the kernel takes the last of most options.
type Cmdline struct {
	Arch       arch.Arch
	Console    string // the serial console's device
	Form       form.Form
	Root       string // the disk's device, where there is a disk
	KeepPanics bool
	Terminal   Terminal // the user's, for a login on the console; zero: there is none
	Shares     []Share  // for the guest's agent to mount, by their numbers
	Keys       bool     // for the guest's sshd
	Direct     *Direct  // the agent is init; nil: systemd
	Extra      string
}

// Direct is a boot without systemd: the guest's agent is the first process.
type Direct struct {
	Command string // run by a shell on the console; empty: none
	UserNet bool   // the network is QEMU's own, whose addresses are known
}

// words are the ones for the kernel and the agent, whose place is what begins the first of them.
func (d *Direct) words(init string) []string {
	words := []string{init + guest.Agent}
	if d.UserNet {
		words = append(words, guest.NetWord+"user")
	}
	if d.Command != "" {
		words = append(words, guest.InitWord+base64.StdEncoding.EncodeToString([]byte(d.Command)))
	}
	return words
}

// Terminal is what a shell needs to know about a terminal.
type Terminal struct {
	terminal.Size
	Term string // the variable TERM
}

// String writes the command line.
func (c Cmdline) String() string {
	var words []string
	init := "rdinit=" // the word that names the first program
	if c.Form.OnDisk() {
		words, init = []string{"root=" + c.Root, "rw"}, "init="
	}
	if c.Form.Overlaid() {
		words, init = []string{"root=" + c.Root, "ro", "init=" + guest.Overlay}, guest.InitVariable
	}
	words = append(words, "console="+c.Console)
	if !c.KeepPanics {
		words = append(words, "panic=-1")
	}
	words = append(words, "nokaslr")
	if c.Arch.Or() == arch.AMD64 {
		words = append(words, "no_timer_check")
	}
	if c.Terminal.Rows > 0 && c.Terminal.Cols > 0 {
		words = append(words, fmt.Sprintf("%s%d", guest.RowsWord, c.Terminal.Rows),
			fmt.Sprintf("%s%d", guest.ColsWord, c.Terminal.Cols))
	}
	if c.Terminal.Term != "" && !strings.ContainsFunc(c.Terminal.Term, notTermName) {
		words = append(words, guest.TermWord+c.Terminal.Term)
	}
	for n, share := range c.Shares {
		words = append(words, share.word(n))
	}
	if c.Keys {
		words = append(words, guest.SSHWord)
	}
	if c.Direct != nil {
		words = append(words, c.Direct.words(init)...)
	}
	if extra := strings.TrimSpace(c.Extra); extra != "" {
		words = append(words, extra)
	}
	return strings.Join(words, " ")
}

// notTermName is true of characters that no terminal's name has: the user's TERM must not add options of its own.
func notTermName(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-+._", r))
}
