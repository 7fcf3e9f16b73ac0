// Package elffile opens ELF files that others made.
package elffile

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// File is an ELF file with its symbols.
type File struct {
	*elf.File
	Symbols []elf.Symbol // of its first symbol table; none where it has none
}

// Open reads an ELF file of size bytes. One that would take far more memory than it has
// bytes, or that debug/elf trips over, is an error. The symbols' names and the sections'
// are read; what the sections hold may still be a bomb, where it is compressed.
func Open(r io.ReaderAt, size int64) (f *File, err error) {
	defer func() {
		if v := recover(); v != nil { // debug/elf makes no promise about files that lie
			f, err = nil, fmt.Errorf("%v", v)
		}
	}()
	if err := bound(piece{r, size}); err != nil { // NewFile itself reads names
		return nil, err
	}
	f = &File{}
	if f.File, err = elf.NewFile(r); err != nil {
		return nil, err
	}
	f.Symbols, err = f.File.Symbols()
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		return nil, err
	}
	return f, nil
}

// piece is a part of a file, or all of it.
type piece struct {
	r    io.ReaderAt
	size int64
}

// part is n bytes of it, or fewer at its end.
func (p piece) part(off, n int64) piece {
	off = min(max(off, 0), p.size)
	n = min(max(n, 0), p.size-off)
	return piece{io.NewSectionReader(p.r, off, n), n}
}

func (p piece) bytes() ([]byte, error) {
	b := make([]byte, p.size)
	if n, err := p.r.ReadAt(b, 0); n < len(b) {
		return nil, err
	}
	return b, nil
}

// rawELF is what an ELF file says of its sections, before any of them is read.
type rawELF struct {
	piece
	order    binary.ByteOrder
	sections []elf.Section64
	names    int // the section of their names
	symbol   int // bytes of a symbol
}

// bound refuses a file for which debug/elf would need far more memory than it has bytes: it inflates the tables of
// symbols and of names unasked where they are compressed, which no compiler does, and copies each name, of which
// many may be one long string.
func bound(b piece) error {
	f, err := readRawELF(b)
	if err != nil {
		return err
	}
	if len(f.sections) == 0 {
		return nil
	}
	tables, symtab := []int{f.names}, -1
	for i, s := range f.sections {
		if elf.SectionType(s.Type) == elf.SHT_SYMTAB { // the first one is read
			tables, symtab = append(tables, i, int(s.Link)), i
			break
		}
	}
	for _, i := range tables {
		if i >= len(f.sections) {
			return fmt.Errorf("its section %d is not there", i)
		}
		if elf.SectionFlag(f.sections[i].Flags)&elf.SHF_COMPRESSED != 0 {
			return errors.New("its symbols or their names are compressed")
		}
	}
	left := 2 * b.size
	if f.names != 0 { // no section's, where it is
		var at []uint32
		for _, s := range f.sections {
			at = append(at, s.Name)
		}
		if left, err = spend(left, f.content(f.names), at); err != nil {
			return err
		}
	}
	if symtab < 0 {
		return nil
	}
	return f.boundSymbols(left, f.content(symtab), f.content(tables[2]))
}

// boundSymbols bounds the names of the symbols.
func (f *rawELF) boundSymbols(left int64, symbols, names piece) error {
	b, err := symbols.bytes()
	if err != nil {
		return err
	}
	var at []uint32
	for ; len(b) >= f.symbol; b = b[f.symbol:] {
		at = append(at, f.order.Uint32(b)) // st_name is the first field of both classes
	}
	_, err = spend(left, names, at)
	return err
}

// spend takes the lengths of names at places of a table from what is left of a bound; one may have no end.
func spend(left int64, table piece, at []uint32) (int64, error) {
	text, err := table.bytes()
	if err != nil {
		return 0, err
	}
	for _, from := range at {
		if int64(from) >= table.size {
			continue
		}
		n := bytes.IndexByte(text[from:], 0)
		if n < 0 {
			n = len(text[from:])
		}
		if left -= int64(n); left < 0 {
			return 0, errors.New("its names have more bytes than it has")
		}
	}
	return left, nil
}

// content is a section as it is in the file.
func (f *rawELF) content(i int) piece {
	s := f.sections[i]
	if s.Off > uint64(f.size) || elf.SectionType(s.Type) == elf.SHT_NOBITS {
		return f.part(0, 0)
	}
	return f.part(int64(s.Off), int64(min(s.Size, uint64(f.size))))
}

// readRawELF reads the table of sections. Both classes are read as the wider one.
func readRawELF(b piece) (*rawELF, error) {
	head, err := b.part(0, 64).bytes()
	if err != nil {
		return nil, err
	}
	if len(head) < 52 {
		return nil, fmt.Errorf("%d bytes are no header", len(head))
	}
	f := &rawELF{piece: b, order: binary.LittleEndian}
	if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
		f.order = binary.BigEndian
	}
	var off, size, count, want int64
	wide := elf.Class(head[elf.EI_CLASS]) == elf.ELFCLASS64
	if wide {
		var h elf.Header64
		if _, err := binary.Decode(head, f.order, &h); err != nil {
			return nil, err
		}
		off, size, count, f.names, f.symbol, want = int64(h.Shoff), int64(h.Shentsize), int64(h.Shnum),
			int(h.Shstrndx), elf.Sym64Size, 64
	} else {
		var h elf.Header32
		if _, err := binary.Decode(head, f.order, &h); err != nil {
			return nil, err
		}
		off, size, count, f.names, f.symbol, want = int64(h.Shoff), int64(h.Shentsize), int64(h.Shnum),
			int(h.Shstrndx), elf.Sym32Size, 40
	}
	if off == 0 {
		return f, nil
	}
	if size != want {
		return nil, fmt.Errorf("a section's header has %d bytes, not %d", size, want)
	}
	if count == 0 || f.names == int(elf.SHN_XINDEX) { // what does not fit is in the first section's header
		text, err := b.part(off, size).bytes()
		if err != nil {
			return nil, err
		}
		first, err := f.header(text, wide)
		if err != nil {
			return nil, err
		}
		if count == 0 {
			count = int64(min(first.Size, uint64(b.size)))
		}
		if f.names == int(elf.SHN_XINDEX) {
			f.names = int(first.Link)
		}
	}
	if off < 0 || count > (b.size-min(off, b.size))/size {
		return nil, fmt.Errorf("%d headers of sections are more than it has", count)
	}
	table, err := b.part(off, count*size).bytes()
	if err != nil {
		return nil, err
	}
	for ; len(table) > 0; table = table[size:] {
		s, err := f.header(table[:size], wide)
		if err != nil {
			return nil, err
		}
		f.sections = append(f.sections, s)
	}
	return f, nil
}

func (f *rawELF) header(b []byte, wide bool) (s elf.Section64, err error) {
	if wide {
		_, err = binary.Decode(b, f.order, &s)
		return s, err
	}
	var n elf.Section32
	_, err = binary.Decode(b, f.order, &n)
	return elf.Section64{Name: n.Name, Type: n.Type, Flags: uint64(n.Flags), Off: uint64(n.Off), Size: uint64(n.Size),
		Link: n.Link}, err
}
