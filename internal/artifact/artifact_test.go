package artifact

import (
	"debug/elf"
	"fmt"
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
	config := "#\n# Automatically generated file; DO NOT EDIT.\n# Linux/%s 6.12.117 Kernel Configuration\n#\n"
	for word, want := range map[string]arch.Arch{"arm64": arch.ARM64, "riscv": arch.RISCV64, "powerpc": arch.PPC64EL,
		"x86": arch.AMD64, "x86_64": arch.AMD64, "vax": arch.Default, "": arch.Default} {
		dir := t.TempDir()
		for name, text := range map[string]string{Config: fmt.Sprintf(config, word), Vmlinux: "cut off"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := ArchOf(dir); got != want {
			t.Errorf("without a vmlinux, a config of %q is of %v, want %v", word, got, want)
		}
	}
	if got := ArchOf(t.TempDir()); got != arch.Default {
		t.Errorf("no vmlinux: %v", got)
	}
}
