package gdb

import (
	"bufio"
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/editdist"
	"github.com/kimg/kimg/internal/elffile"
)

// Symbols is what a vmlinux says of itself.
type Symbols struct {
	Functions []string
	Variables map[string]bool
	DebugInfo bool   // it has DWARF
	Modules   string // directory of its modules; empty: it is not looked for functions of modules
	Entry     uint64 // the physical address of the first instruction; 0: not known
}

// ReadSymbols reads the symbols of a vmlinux.
func ReadSymbols(name string) (_ *Symbols, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("read the symbols of %s: %w", name, err)
		}
	}()
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	f, err := elffile.Open(file, info.Size())
	if err != nil {
		return nil, err
	}
	s := &Symbols{Variables: map[string]bool{},
		DebugInfo: f.Section(".debug_info") != nil || f.Section(".zdebug_info") != nil}
	// Linux's linker script makes it a physical address; symbols are linear ones.
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && f.Entry >= p.Paddr && f.Entry-p.Paddr < p.Filesz {
			s.Entry = f.Entry
		}
	}
	if a, ok := arch.OfELF(f.Machine); ok && a.Start > 0 { // there it is a linear one, too
		s.Entry = a.Start
	}
	for _, symbol := range f.Symbols {
		switch elf.ST_TYPE(symbol.Info) {
		case elf.STT_FUNC:
			if !strings.HasPrefix(symbol.Name, "__pfx_") {
				s.Functions = append(s.Functions, symbol.Name)
			}
		case elf.STT_OBJECT:
			s.Variables[symbol.Name] = true
		}
	}
	return s, nil
}

// maxNear is how many names help.
const maxNear = 5

// minPart is how long a part of a name must be to identify it.
const minPart = 5

// Near returns the functions that are most like the one in a breakpoint's place. Kernel functions change by getting
// a prefix or a suffix (do_sys_openat2, __x64_sys_openat), and users mistype a letter or two.
func (s *Symbols) Near(at string) []string {
	want := at[strings.LastIndexByte(at, ':')+1:]
	if want == "" || strings.Trim(want, "0123456789") == "" || want[0] == '*' {
		return nil
	}
	type candidate struct {
		name     string
		distance int
	}
	var found []candidate
	limit := max(1, len(want)/3)
	for _, name := range s.Functions {
		extra := len(name) - len(want)
		switch {
		case strings.HasPrefix(name, want):
			found = append(found, candidate{name, extra})
		case len(want) >= minPart && strings.Contains(name, want):
			found = append(found, candidate{name, 10 + extra})
		case -limit <= extra && extra <= limit:
			if d := editdist.Between(name, want); d <= limit {
				found = append(found, candidate{name, 5 * d})
			}
		}
	}
	slices.SortFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.name, b.name))
	})
	var names []string
	for _, c := range slices.Compact(found) {
		names = append(names, c.name)
	}
	return names[:min(len(names), maxNear)]
}

// FirstStop is the physical address that a halted guest may run to before gdb attaches, or 0 where it must stay
// halted: the kernel's first instruction, with the kernel unpacked and no page of it mapped yet, so that it is
// before every place that gdb knows by a name. An address may be anywhere.
func (s *Symbols) FirstStop(breaks []string) uint64 {
	if len(breaks) == 0 || slices.ContainsFunc(breaks, func(at string) bool { return strings.HasPrefix(at, "*") }) {
		return 0
	}
	return s.Entry
}

// RunStub sets a hardware breakpoint, lets the guest run, and returns when it has stopped there. conn is a
// connection to QEMU's gdb stub; the breakpoint goes when gdb connects to the stub. It speaks GDB's remote serial
// protocol: https://sourceware.org/gdb/current/onlinedocs/gdb.html/Remote-Protocol.html
func RunStub(conn io.ReadWriter, address uint64) error {
	from := bufio.NewReader(conn)
	ask := func(packet string) (string, error) {
		sum := byte(0)
		for _, b := range []byte(packet) {
			sum += b
		}
		if _, err := fmt.Fprintf(conn, "$%s#%02x", packet, sum); err != nil {
			return "", err
		}
		if _, err := from.ReadString('$'); err != nil { // an acknowledgement comes first
			return "", err
		}
		answer, err := from.ReadString('#')
		if err != nil {
			return "", err
		}
		if _, err := io.CopyN(io.Discard, from, 2); err != nil { // its checksum: nothing is lost on a socket
			return "", err
		}
		_, err = io.WriteString(conn, "+")
		return strings.TrimSuffix(answer, "#"), err
	}
	set := fmt.Sprintf("Z1,%x,1", address)
	if answer, err := ask(set); err != nil || answer != "OK" {
		return errors.Join(err, fmt.Errorf("QEMU's answer to %s is %q", set, answer))
	}
	stopped, err := ask("c")
	if err == nil && !strings.HasPrefix(stopped, "T05") {
		err = fmt.Errorf("QEMU's answer to c is %q", stopped)
	}
	return err
}
