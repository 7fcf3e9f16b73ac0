package artifact

import (
	"debug/elf"
	"os"
	"path/filepath"
	"testing"

	"github.com/kimg/kimg/internal/arch"
)

func TestArchOf(t *testing.T) {
	for name, c := range map[string]struct {
		head string
		want arch.Arch
	}{
		"arm64":   {elf.ELFMAG + "\x02\x01\x01" + "123456789" + "\x02\x00\xb7\x00", arch.ARM64},
		"riscv64": {elf.ELFMAG + "\x02\x01\x01" + "123456789" + "\x02\x00\xf3\x00and more", arch.RISCV64},
		"amd64":   {elf.ELFMAG + "\x02\x01\x01" + "123456789" + "\x02\x00\x3e\x00", arch.AMD64},
		"a vax":   {elf.ELFMAG + "\x02\x01\x01" + "123456789" + "\x02\x00\x4b\x00", arch.Default},
		"short":   {elf.ELFMAG, arch.Default},
		"no ELF":  {"#!/bin/sh\n# and so on and so on\n", arch.Default},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, Vmlinux), []byte(c.head), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := ArchOf(dir); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := ArchOf(t.TempDir()); got != arch.Default {
		t.Errorf("no vmlinux: %v", got)
	}
}
