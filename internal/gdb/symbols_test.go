package gdb

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFirstStop(t *testing.T) {
	kernel := &Symbols{Entry: 0x1000000}
	for _, tt := range []struct {
		breaks string
		want   uint64
	}{
		{"", 0}, // it stays halted
		{"do_sys_open", 0x1000000},
		{"fs/open.c:1435 vfs_read", 0x1000000},
		{"vfs_read *0xfff0", 0}, // the firmware's
	} {
		if got := kernel.FirstStop(strings.Fields(tt.breaks)); got != tt.want {
			t.Errorf("%q: %#x, want %#x", tt.breaks, got, tt.want)
		}
	}
}

// Elsewhere than on x86 an ELF file's entry is a linear address: a guest that ran to it would not stop there.
func TestEntryIsPhysical(t *testing.T) {
	file := func(machine elf.Machine, entry uint64) string {
		var b bytes.Buffer
		h := elf.Header64{Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB),
			byte(elf.EV_CURRENT)}, Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
			Entry: entry, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1, Shentsize: 64}
		p := elf.Prog64{Type: uint32(elf.PT_LOAD), Vaddr: entry, Paddr: entry, Filesz: 16, Memsz: 16}
		for _, part := range []any{&h, &p, [64]byte{}} {
			if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
				t.Fatal(err)
			}
		}
		name := filepath.Join(t.TempDir(), "vmlinux")
		if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, c := range []struct {
		machine     elf.Machine
		entry, want uint64
	}{
		{elf.EM_X86_64, 0x1000000, 0x1000000},
		{elf.EM_AARCH64, 0xffff800080000000, 0x40200000},
		{elf.EM_RISCV, 0xffffffff80000000, 0x80200000},
	} {
		s, err := ReadSymbols(file(c.machine, c.entry))
		if err != nil || s.Entry != c.want {
			t.Errorf("%s: %+v, %v, want %#x", c.machine, s, err, c.want)
		}
	}
}
