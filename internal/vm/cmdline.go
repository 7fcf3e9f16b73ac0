package vm

import (
	"fmt"
	"strings"

	"github.com/kimg/kimg/internal/guest"
)

// Cmdline is the kernel's command line. What it always says:
//
//   - panic=-1: a panic reboots at once, and with -no-reboot that ends QEMU
//   - nokaslr: gdb finds the kernel where vmlinux says it is
//
// Extra comes last, so that the person's words win where the kernel takes the last one.
type Cmdline struct {
	Bus      Bus
	Terminal Terminal // the person's, for a login on the console; zero: there is none
	Extra    string
}

// Terminal is what a shell must know of a terminal.
type Terminal struct {
	Rows, Cols int
	Term       string // the variable TERM
}

// String writes the command line.
func (c Cmdline) String() string {
	words := []string{"root=" + c.Bus.Root(), "rw", "console=ttyS0", "panic=-1", "nokaslr"}
	if c.Terminal.Rows > 0 && c.Terminal.Cols > 0 {
		words = append(words, fmt.Sprintf("%s%d", guest.RowsWord, c.Terminal.Rows),
			fmt.Sprintf("%s%d", guest.ColsWord, c.Terminal.Cols))
	}
	if c.Terminal.Term != "" && !strings.ContainsFunc(c.Terminal.Term, notTermName) {
		words = append(words, guest.TermWord+c.Terminal.Term)
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
