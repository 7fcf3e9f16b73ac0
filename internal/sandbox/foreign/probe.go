package foreign

import (
	"bytes"
	"debug/elf"
	"encoding/binary"

	"github.com/kimg/kimg/internal/arch"
)

// Probe is a program of an architecture that exits with 42: an ELF header, one segment, and its code.
func Probe(a arch.Arch) []byte {
	const at, headers = 0x400000, 64 + 56 // at is a multiple of any page's size
	size := uint64(headers + len(a.Exit42))
	h := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(a.ELF), Version: uint32(elf.EV_CURRENT),
		Entry: at + headers, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1,
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB)
	h.Ident[elf.EI_VERSION] = byte(elf.EV_CURRENT)
	if a.ELF == elf.EM_PPC64 {
		h.Flags = 2 // the ABI in which the entry is code, and no descriptor of it
	}
	var b bytes.Buffer
	for _, part := range []any{h, elf.Prog64{
		Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: at, Paddr: at,
		Filesz: size, Memsz: size, Align: 1 << 16,
	}, []byte(a.Exit42)} {
		_ = binary.Write(&b, binary.LittleEndian, part) // into memory, and of a fixed size
	}
	return b.Bytes()
}
