// Package addr2line finds where in the source an instruction of a kernel or of one of its modules is: file and line,
// and the functions that were inlined there. It reads of the DWARF only the compile units that are asked for, so that
// a vmlinux of hundreds of MB answers at once: begin with [Open].
package addr2line

import (
	"bytes"
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"sort"
	"strings"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/elffile"
)

// maxSection bounds a section's content, in bytes: what is compressed may say anything.
const maxSection = 4 << 30

// maxGrowth is how many times larger a compressed section may be. Linux compresses with zlib or zstd.
const maxGrowth = 40

// Place is a line of the source, and the function that it is in.
type Place struct {
	Function string
	File     string
	Line     int
}

// ErrNoDebugInfo says that a file knows its functions only.
var ErrNoDebugInfo = errors.New("it has no debug information")

// File is a kernel or a module with its symbols.
type File struct {
	BuildID string // hexadecimal; empty: it has none
	Banner  string // what the kernel says first when it boots; empty: a module

	file      *os.File
	elf       *elffile.File
	functions map[string][]symbol
	starts    []uint64 // of all symbols of code, in order
	base      []uint64 // by section, where it was put: a module has all of them at 0

	data   *dwarf.Data
	ranges []span
	units  map[dwarf.Offset]*unit
	roots  []string // directories that were compiled in, with a / at the end
	kernel *File    // of a module: see Of
}

type symbol struct {
	address, size uint64
}

// span is a part of the code that a compile unit is of.
type span struct {
	low, high uint64
	unit      dwarf.Offset
}

// Open reads the symbols of an ELF file. The caller closes it.
func Open(name string) (_ *File, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			file.Close()
			err = fmt.Errorf("read the symbols of %s: %w", name, err)
		}
	}()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a file")
	}
	f := &File{file: file, units: map[dwarf.Offset]*unit{}, functions: map[string][]symbol{}}
	if f.elf, err = elffile.Open(file, info.Size()); err != nil {
		return nil, err
	}
	f.place()
	f.index()
	f.BuildID = f.buildID()
	f.Banner = f.banner()
	return f, nil
}

// Close closes the file.
func (f *File) Close() error { return f.file.Close() }

// place gives each section of a module a place of its own, where no two overlap.
func (f *File) place() {
	f.base = make([]uint64, len(f.elf.Sections))
	if f.elf.Type != elf.ET_REL {
		return
	}
	at := uint64(1 << 20)
	for i, s := range f.elf.Sections {
		if s.Flags&elf.SHF_ALLOC != 0 && s.Size < 1<<32 {
			f.base[i] = at
			at += (s.Size + 1<<12) &^ (1<<12 - 1)
		}
	}
}

// index notes where each function is.
func (f *File) index() {
	for _, s := range f.elf.Symbols {
		i := int(s.Section)
		if i <= 0 || i >= len(f.elf.Sections) || f.elf.Sections[i].Flags&elf.SHF_EXECINSTR == 0 {
			continue
		}
		switch elf.ST_TYPE(s.Info) {
		case elf.STT_FUNC, elf.STT_NOTYPE, elf.STT_GNU_IFUNC:
		default:
			continue
		}
		at := s.Value + f.base[i]
		f.functions[s.Name] = append(f.functions[s.Name], symbol{at, s.Size})
		f.starts = append(f.starts, at)
	}
	slices.Sort(f.starts)
	f.starts = slices.Compact(f.starts)
}

// NoFunctionError says that a file has no such function, or none of that size: it is of another build.
type NoFunctionError struct {
	Function string
	Size     uint64
	Other    bool // there is one, of another size
}

func (e *NoFunctionError) Error() string {
	if e.Other {
		return fmt.Sprintf("%s has another size here than %#x bytes", e.Function, e.Size)
	}
	return fmt.Sprintf("there is no function %s here", e.Function)
}

// Address finds the address of an instruction by its function, the offset in it, and the function's size as the
// kernel says it: of several functions of one name it is the one of that size. Size 0 is any.
func (f *File) Address(function string, offset, size uint64) (uint64, error) {
	var found []uint64
	for _, s := range f.functions[function] {
		if size == 0 || s.size == size || f.next(s.address)-s.address == size {
			found = append(found, s.address)
		}
	}
	slices.Sort(found)
	found = slices.Compact(found)
	switch {
	case len(found) == 0:
		return 0, &NoFunctionError{function, size, len(f.functions[function]) > 0}
	case len(found) > 1:
		return 0, fmt.Errorf("%d functions are called %s and have that size", len(found), function)
	case size > 0 && offset > size:
		return 0, fmt.Errorf("%s has no offset %#x", function, offset)
	}
	return found[0] + offset, nil
}

// next is where the next symbol begins: that is how the kernel itself knows a function's size.
func (f *File) next(at uint64) uint64 {
	i, _ := slices.BinarySearch(f.starts, at+1)
	if i == len(f.starts) {
		return at
	}
	return f.starts[i]
}

// section reads one whole; nil where there is none.
func (f *File) section(name string) ([]byte, error) {
	s := f.elf.Section(name)
	if s == nil || s.Type == elf.SHT_NOBITS {
		return nil, nil
	}
	if s.Size > maxSection || s.Flags&elf.SHF_COMPRESSED != 0 && s.Size/maxGrowth > s.FileSize {
		return nil, fmt.Errorf("its section %s has %d bytes", name, s.Size)
	}
	b, err := s.Data()
	if err != nil {
		return nil, fmt.Errorf("its section %s: %w", name, err)
	}
	if f.elf.Type == elf.ET_REL {
		err = f.relocate(b, s)
	}
	return b, err
}

// relocate writes the addresses that a module's linker would into a section's content: those of 4 and 8 bytes, which
// are all that debug information has.
func (f *File) relocate(b []byte, of *elf.Section) error {
	a, _ := arch.OfELF(f.elf.Machine)
	if a.Abs64 == 0 {
		return fmt.Errorf("modules of %v are not known here", f.elf.Machine)
	}
	size := map[uint32]int{a.Abs64: 8, a.Abs32: 4}
	order := f.elf.ByteOrder
	for _, s := range f.elf.Sections {
		if s.Type != elf.SHT_RELA || int(s.Info) >= len(f.elf.Sections) || f.elf.Sections[s.Info] != of ||
			s.Flags&elf.SHF_COMPRESSED != 0 {
			continue
		}
		list, err := s.Data()
		if err != nil {
			return err
		}
		for ; len(list) >= 24; list = list[24:] {
			at, info, value := order.Uint64(list), order.Uint64(list[8:]), order.Uint64(list[16:])
			number, n := info>>32, size[uint32(info)]
			if number == 0 || number > uint64(len(f.elf.Symbols)) || n == 0 || at > uint64(len(b)) ||
				uint64(len(b))-at < uint64(n) {
				continue // what it would be of is asked for by nobody
			}
			symbol := f.elf.Symbols[number-1]
			value += symbol.Value
			if i := int(symbol.Section); i > 0 && i < len(f.base) {
				value += f.base[i]
			}
			if n == 8 {
				order.PutUint64(b[at:], value)
			} else {
				order.PutUint32(b[at:], uint32(value))
			}
		}
	}
	return nil
}

// buildID is the one of the GNU note (NT_GNU_BUILD_ID, 3).
func (f *File) buildID() string {
	for _, s := range f.elf.Sections {
		if s.Type != elf.SHT_NOTE || s.Size > 1<<20 || s.Flags&elf.SHF_COMPRESSED != 0 {
			continue
		}
		b, err := s.Data()
		for err == nil && len(b) >= 12 {
			name, desc := uint64(f.elf.ByteOrder.Uint32(b)), uint64(f.elf.ByteOrder.Uint32(b[4:]))
			kind := f.elf.ByteOrder.Uint32(b[8:])
			b = b[12:]
			whole := (name+3)&^3 + (desc+3)&^3
			if whole > uint64(len(b)) {
				break
			}
			if kind == 3 && bytes.HasPrefix(b, []byte("GNU\x00")) && name == 4 {
				return hex.EncodeToString(b[4 : 4+desc])
			}
			b = b[whole:]
		}
	}
	return ""
}

// banner is the text of linux_banner.
func (f *File) banner() string {
	for _, symbol := range f.elf.Symbols {
		i := int(symbol.Section)
		if symbol.Name != "linux_banner" || i <= 0 || i >= len(f.elf.Sections) {
			continue
		}
		s := f.elf.Sections[i]
		if s.Flags&elf.SHF_COMPRESSED != 0 || s.Type == elf.SHT_NOBITS || symbol.Value < s.Addr {
			continue
		}
		text := make([]byte, 1024)
		n, err := s.ReadAt(text, int64(symbol.Value-s.Addr))
		if err != nil && !errors.Is(err, io.EOF) {
			return ""
		}
		text, _, _ = bytes.Cut(text[:n], []byte{0})
		return strings.TrimSpace(string(text))
	}
	return ""
}

// load reads the DWARF, as far as all questions need it: what code each compile unit is of.
func (f *File) load() (err error) {
	if f.data != nil {
		return nil
	}
	defer guard(&err)
	if f.elf.Section(".debug_info") == nil {
		return ErrNoDebugInfo
	}
	part := map[string][]byte{}
	version5 := []string{"addr", "line_str", "str_offsets", "rnglists"}
	for _, name := range append([]string{"abbrev", "info", "str", "line", "ranges"}, version5...) {
		if part[name], err = f.section(".debug_" + name); err != nil {
			return err
		}
	}
	data, err := dwarf.New(part["abbrev"], nil, nil, part["info"], part["line"], nil, part["ranges"], part["str"])
	if err != nil {
		return err
	}
	for _, name := range version5 {
		if part[name] != nil {
			if err := data.AddSection(".debug_"+name, part[name]); err != nil {
				return err
			}
		}
	}
	if f.kernel != nil {
		if err := f.kernel.load(); err != nil {
			return err
		}
		f.roots = append(f.roots, f.kernel.roots...)
	}
	r := data.Reader()
	for _, at := range unitsOf(part["info"], f.elf.ByteOrder) {
		r.Seek(at)
		e, err := r.Next()
		if err != nil {
			return err
		}
		if e == nil || e.Tag != dwarf.TagCompileUnit {
			continue
		}
		f.addRoot(e)
		ranges, err := data.Ranges(e)
		if err != nil {
			return err
		}
		for _, r := range ranges {
			if r[0] < r[1] {
				f.ranges = append(f.ranges, span{r[0], r[1], e.Offset})
			}
		}
	}
	slices.SortFunc(f.ranges, func(a, b span) int {
		if a.low < b.low {
			return -1
		}
		return 1
	})
	f.data = data
	return nil
}

// Of says which kernel a module is of. Only the kernel knows where its source was when it was compiled.
func (f *File) Of(kernel *File) { f.kernel = kernel }

// addRoot notes the directories that a compile unit tells of: where the compiler ran, and where the kernel's source is.
func (f *File) addRoot(e *dwarf.Entry) {
	name, _ := e.Val(dwarf.AttrName).(string)
	dir, _ := e.Val(dwarf.AttrCompDir).(string)
	source, _ := strings.CutSuffix(name, "init/main.c")
	if source == name {
		source = ""
	}
	for _, root := range []string{source, dir} {
		root = strings.TrimSuffix(root, "/") + "/"
		if path.IsAbs(root) && root != "/" && !slices.Contains(f.roots, root) && len(f.roots) < maxDepth {
			f.roots = append(f.roots, root)
		}
	}
}

// unitsOf finds where the first entry of each compile unit is (DWARF 5, 7.5.1). debug/dwarf has no way from one unit to
// the next but through all that is between them, which takes seconds.
func unitsOf(info []byte, order binary.ByteOrder) (list []dwarf.Offset) {
	for at := uint64(0); at+12 <= uint64(len(info)); {
		unit, wide := info[at:], uint64(4) // bytes of an offset
		length, header := uint64(order.Uint32(unit)), uint64(4)
		if length == 0xffffffff {
			length, header, wide = order.Uint64(unit[4:]), 12, 8
		}
		if length < 8 || length > uint64(len(unit))-header || uint64(len(unit)) < header+4 {
			break
		}
		version, kind := order.Uint16(unit[header:]), unit[header+2]
		switch {
		case version < 5:
			list = append(list, dwarf.Offset(at+header+2+wide+1))
		case kind == 1: // DW_UT_compile
			list = append(list, dwarf.Offset(at+header+2+1+1+wide))
		}
		at += header + length
	}
	return list
}

// guard makes an error of a panic: debug/dwarf makes no promise about files that lie.
func guard(err *error) {
	if v := recover(); v != nil {
		*err = fmt.Errorf("its debug information is wrong: %v", v)
	}
}

// Places are where the instruction at an address is: the innermost inlined function first, the one that has a symbol
// last. An address that no compile unit is of, as of assembly, has none.
func (f *File) Places(address uint64) (_ []Place, err error) {
	if err := f.load(); err != nil {
		return nil, err
	}
	defer guard(&err)
	i := sort.Search(len(f.ranges), func(i int) bool { return f.ranges[i].low > address }) - 1
	if i < 0 || address >= f.ranges[i].high {
		return nil, nil
	}
	u, err := f.unit(f.ranges[i].unit)
	if err != nil {
		return nil, err
	}
	return u.places(address)
}
