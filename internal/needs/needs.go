// Package needs has what a kernel's configuration must have for what kimg does with the kernel: boot it as a guest,
// reach the agent in it, and have gdb look at it. It is read before a kernel is compiled and before a guest boots.
package needs

import (
	"slices"
	"strings"
)

// Config gives a symbol's value, without CONFIG_; "n" or "" where it is off.
type Config func(symbol string) string

// Need is what one use of a kernel needs. Nothing can be a module: there is no initramfs to load it from.
type Need struct {
	What string     // completes "this kernel cannot"
	Any  [][]string // symbols of which one set is built in, the best first
	Off  []string   // symbols that are off
}

// What kimg does with kernels.
var (
	Disk = Need{What: "find its root disk", Any: [][]string{
		{"VIRTIO_PCI", "VIRTIO_BLK"}, {"ATA_PIIX", "BLK_DEV_SD"}, {"SATA_AHCI", "BLK_DEV_SD"}}}
	Root     = Need{What: "mount its root file system", Any: [][]string{{"EXT4_FS"}}}
	Programs = Need{What: "run programs", Any: [][]string{{"BINFMT_ELF"}}}

	Console = Need{What: "show its console", Any: [][]string{{"SERIAL_8250_CONSOLE"}}}
	Nodes   = Need{What: "have device nodes", Any: [][]string{{"DEVTMPFS"}}}
	// Systemd is what its README calls required, of what a configuration for a guest could lack.
	Systemd = Need{What: "run systemd", Any: [][]string{{"CGROUPS", "INOTIFY_USER", "SIGNALFD", "TIMERFD", "EPOLL",
		"NET", "UNIX", "SYSFS", "PROC_FS", "TMPFS", "FHANDLE"}}}

	Agent = Need{What: "run a command for the host", Any: [][]string{{"VIRTIO_PCI", "VIRTIO_CONSOLE"}}}
	Share = Need{What: "share a directory", Any: [][]string{{"VIRTIO_PCI", "NET_9P", "NET_9P_VIRTIO", "9P_FS"}}}
	Card  = Need{What: "use a network card", Any: [][]string{{"VIRTIO_PCI", "VIRTIO_NET"}, {"E1000"}}}

	// With DEBUG_INFO_SPLIT the types and the variables are in .dwo files beside the objects, and stay there.
	Debug     = Need{What: "be debugged", Any: [][]string{{"DEBUG_INFO"}}, Off: []string{"DEBUG_INFO_SPLIT"}}
	Variables = Need{What: "show gdb its structures and variables", Off: []string{"DEBUG_INFO_REDUCED"}}
	Scripts   = Need{What: "give gdb lx-dmesg, lx-ps, lx-symbols", Any: [][]string{{"GDB_SCRIPTS"}}}
	Process   = Need{What: "tell gdb which process runs", Any: [][]string{{"GDB_SCRIPTS"}}}
)

// Boot is what no guest boots without.
var Boot = []Need{Disk, Root, Programs}

// Guest is what a guest boots without, and is not what people want then.
var Guest = []Need{Console, Nodes, Systemd}

// Build is what a kernel that is to be compiled is held against.
var Build = slices.Concat(Boot, Guest, []Need{Agent, Debug, Variables, Scripts})

// With is Build where something else than Boot is what a kernel must have to come up; nil: it is not.
func With(boot []Need) []Need {
	if boot == nil {
		return Build
	}
	return slices.Concat(boot, Build[len(Boot):])
}

// Record is what being recorded needs, where a symbol is the driver of the second serial port. A disk of another kind
// cannot be read-only in QEMU, as the one with a recorded command is.
func Record(port string) Need {
	return Need{What: "be recorded", Any: [][]string{{"VIRTIO_PCI", "VIRTIO_BLK", port}}}
}

// On has the console's driver in a list be another one: that of an architecture.
func On(console string, list []Need) []Need {
	list = slices.Clone(list)
	for i, n := range list {
		if n.What == Console.What {
			list[i].Any = [][]string{{console}}
		}
	}
	return list
}

// Lack is a need that a configuration does not meet.
type Lack struct {
	What     string
	Without  []string // symbols that are not built in
	Modules  []string // those of Without that are modules
	With     []string // symbols that are to be off
	Settings []string // SYMBOL=VALUE that meet it
}

// Met returns which of a need's sets is built in, the first; -1: none is, or something is on that must be off.
func (n Need) Met(c Config) int {
	if slices.ContainsFunc(n.Off, func(s string) bool { return on(c(s)) }) {
		return -1
	}
	if len(n.Any) == 0 {
		return 0
	}
	return slices.IndexFunc(n.Any, func(set []string) bool {
		return !slices.ContainsFunc(set, func(s string) bool { return c(s) != "y" })
	})
}

func on(value string) bool { return value == "y" || value == "m" }

// Lack is what a configuration lacks for a need; nil: nothing.
func (n Need) Lack(c Config) *Lack {
	if n.Met(c) >= 0 {
		return nil
	}
	l := &Lack{What: n.What}
	for i, set := range n.Any {
		var without []string
		for _, s := range set {
			if c(s) != "y" {
				without = append(without, s)
			}
		}
		if i == 0 || len(without) < len(l.Without) {
			l.Without = without
		}
	}
	for _, s := range l.Without {
		if c(s) == "m" {
			l.Modules = append(l.Modules, s)
		}
		l.Settings = append(l.Settings, s+"=y")
	}
	for _, s := range n.Off {
		if on(c(s)) {
			l.With, l.Settings = append(l.With, s), append(l.Settings, s+"=n")
		}
	}
	return l
}

// Lacks are those of all needs.
func Lacks(c Config, list ...Need) (lacks []Lack) {
	for _, n := range list {
		if l := n.Lack(c); l != nil {
			lacks = append(lacks, *l)
		}
	}
	return lacks
}

// Why says what is wrong: "it has no VIRTIO_BLK built in, which is a module".
func (l Lack) Why() string {
	var parts []string
	if len(l.Without) > 0 {
		parts = append(parts, "without "+strings.Join(l.Without, ", "))
	}
	if len(l.With) > 0 {
		parts = append(parts, "with "+strings.Join(l.With, ", "))
	}
	why := strings.Join(parts, " and ")
	if len(l.Modules) > 0 {
		why += " (what is a module cannot be loaded: there is no initramfs)"
	}
	return why
}

// Way is the flags that bring what several lack.
func Way(lacks ...Lack) string {
	var sets []string
	for _, l := range lacks {
		for _, s := range l.Settings {
			if !slices.Contains(sets, "--set "+s) {
				sets = append(sets, "--set "+s)
			}
		}
	}
	return strings.Join(sets, " ")
}
