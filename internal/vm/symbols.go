package vm

import (
	"cmp"
	"debug/elf"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/kimg/kimg/internal/editdist"
	"github.com/kimg/kimg/internal/elffile"
)

// symbols is what a vmlinux says of itself.
type symbols struct {
	functions []string
	debugInfo bool   // it has DWARF
	entry     uint64 // the physical address of the first instruction; 0: not known
}

// readSymbols reads an ELF file's functions.
func readSymbols(name string) (_ *symbols, err error) {
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
	s := &symbols{debugInfo: f.Section(".debug_info") != nil || f.Section(".zdebug_info") != nil}
	// Linux's linker script says so of it, while symbols are linear addresses.
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && f.Entry >= p.Paddr && f.Entry-p.Paddr < p.Filesz {
			s.entry = f.Entry
		}
	}
	for _, symbol := range f.Symbols {
		if elf.ST_TYPE(symbol.Info) == elf.STT_FUNC && !strings.HasPrefix(symbol.Name, "__pfx_") {
			s.functions = append(s.functions, symbol.Name)
		}
	}
	return s, nil
}

// maxNear is how many names are a help.
const maxNear = 5

// minPart is how long a part of a name is that says something of the name.
const minPart = 5

// near returns the functions that are most like the one in a breakpoint's place.
// Kernel functions change by getting a prefix or a suffix (do_sys_openat2,
// __x64_sys_openat), and people mistype a letter or two.
func (s *symbols) near(at string) []string {
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
	for _, name := range s.functions {
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
