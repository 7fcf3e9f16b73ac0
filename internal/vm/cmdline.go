package vm

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/guest"
	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/terminal"
)

// Cmdline is the kernel's command line. What it always says:
//
//   - panic=-1: a panic reboots at once, and with -no-reboot that ends QEMU
//   - nokaslr: gdb finds the kernel where vmlinux says it is
//   - no_timer_check: the kernel counts ticks early in its boot, and panics ("IO-APIC +
//     timer doesn't work") when an emulator on a busy machine delivers too few
//
// Extra comes last, so that the person's words win where the kernel takes the last one.
type Cmdline struct {
	Bus      qemu.Bus
	Terminal Terminal // the person's, for a login on the console; zero: there is none
	Shares   []Share  // for the guest's agent to mount, by their numbers
	Keys     bool     // for the guest's sshd
	Direct   *Direct  // the agent is init; nil: systemd
	Extra    string
}

// Direct is a boot without systemd: the guest's agent is the first process.
type Direct struct {
	Command string // run by a shell on the console; empty: none
	UserNet bool   // the network is QEMU's own, whose addresses are known
}

// words are what the kernel and the agent are told of it.
func (d *Direct) words() []string {
	words := []string{"init=" + guest.Agent}
	if d.UserNet {
		words = append(words, guest.NetWord+"user")
	}
	if d.Command != "" {
		words = append(words, guest.InitWord+base64.StdEncoding.EncodeToString([]byte(d.Command)))
	}
	return words
}

// maxCmdline is COMMAND_LINE_SIZE of Linux on x86, less the byte that ends it: the
// kernel cuts off what is more.
const maxCmdline = 2047

// Terminal is what a shell must know of a terminal.
type Terminal struct {
	terminal.Size
	Term string // the variable TERM
}

// String writes the command line.
func (c Cmdline) String() string {
	words := []string{"root=" + c.Bus.Root(), "rw", "console=" + arch.Default.Console, "panic=-1", "nokaslr", "no_timer_check"}
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
		words = append(words, c.Direct.words()...)
	}
	if extra := strings.TrimSpace(c.Extra); extra != "" {
		words = append(words, extra)
	}
	return strings.Join(words, " ")
}

// notTermName is true of what no terminal's name has: a TERM of the person's
// environment must not add words of its own.
func notTermName(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-+._", r))
}
