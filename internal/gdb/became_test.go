package gdb

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBecame(t *testing.T) {
	s := &Symbols{Functions: []string{"kernel_clone", "do_sys_openat2", "__x64_sys_open", "__do_sys_open",
		"__x64_sys_read", "exc_page_fault", "do_user_addr_fault", "kmem_cache_alloc_noprof", "__kmalloc_noprof",
		"vfs_read"}, Variables: map[string]bool{"jiffies": true}}
	old := &Symbols{Functions: []string{"_do_fork", "do_sys_open", "sys_open", "SyS_open"}}
	for _, c := range []struct {
		kernel *Symbols
		at     string
		want   string
		hint   string
	}{
		{s, "do_fork", "kernel_clone", "in this kernel do_fork is kernel_clone"},
		{s, "_do_fork", "kernel_clone", ""},
		{s, "kernel/fork.c:do_fork", "kernel_clone", "in this kernel do_fork is kernel_clone"},
		{s, "SyS_open", "__x64_sys_open __do_sys_open", "in this kernel SyS_open is __x64_sys_open or __do_sys_open"},
		{s, "sys_open", "__x64_sys_open __do_sys_open", ""},
		{s, "__x64_sys_open", "__do_sys_open do_sys_openat2", ""},
		{s, "sys_read", "__x64_sys_read", ""},
		{s, "do_page_fault", "exc_page_fault do_user_addr_fault", ""},
		{s, "kmem_cache_alloc", "kmem_cache_alloc_noprof", ""},
		{s, "DO_FORK", "kernel_clone", ""},
		{s, "kmalloc", "__kmalloc_noprof", ""},
		{s, "VFS_READ", "vfs_read", "in this kernel VFS_READ is vfs_read"},
		{s, "jiffies", "", "in kimg debug, at gdb's prompt: watch jiffies stops where it changes, print shows it"},
		{s, "do_sys_open", "do_sys_openat2", ""},
		{s, "vfs_raed", "", "this kernel has vfs_read"},
		{s, "sys_", "", ""},
		{s, "fs/open.c:12", "", ""},
		{old, "do_fork", "_do_fork", ""},
		{old, "kernel_clone", "_do_fork", ""},
		{old, "__x64_sys_open", "sys_open SyS_open", ""},
		{old, "do_sys_openat2", "do_sys_open", ""},
	} {
		if d := cmp.Diff(strings.Fields(c.want), c.kernel.Became(c.at)); d != "" && c.want+strings.Join(
			c.kernel.Became(c.at), "") != "" {
			t.Errorf("%s: -want +got\n%s", c.at, d)
		}
		if e := c.kernel.noBreak(c.at, "Function not defined."); c.hint != "" && e.Hint() != c.hint {
			t.Errorf("%s: hint %q, want %q", c.at, e.Hint(), c.hint)
		}
	}
}

// TestInModule has a function of a module, and one that the module only calls.
func TestInModule(t *testing.T) {
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"net/a.ko": []byte("no ELF"), "net/netfilter/nf-tables.ko": object(t, "nft_do_chain", "printk"),
		"net/b.txt": object(t, "nft_do_chain", "x"),
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := &Symbols{Modules: dir}
	e := s.noBreak("nft_do_chain", `Function "nft_do_chain" not defined.`)
	want := "break at nft_do_chain: it is in the module nf_tables, which is not there before the guest loads it"
	if e.Error() != want || e.Module != "net/netfilter/nf-tables.ko" ||
		!strings.Contains(e.Hint(), "load nf_tables in the guest, then in gdb: lx-symbols, break nft_do_chain") {
		t.Errorf("%v (%s), want %s", e, e.Hint(), want)
	}
	for _, at := range []string{"printk", "nosuch", "*0x1", ""} {
		if got := s.InModule(at); got != "" {
			t.Errorf("%q is in %s", at, got)
		}
	}
	if got := (&Symbols{Modules: filepath.Join(dir, "none")}).InModule("nft_do_chain"); got != "" {
		t.Errorf("without modules: %s", got)
	}
}

// object is an ELF object that defines one function and calls another.
func object(t *testing.T, defines, calls string) []byte {
	t.Helper()
	names := "\x00" + defines + "\x00" + calls + "\x00"
	sections := "\x00.text\x00.symtab\x00.strtab\x00"
	var symbols bytes.Buffer
	put := func(to *bytes.Buffer, v any) {
		if err := binary.Write(to, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	function := elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC)
	put(&symbols, []elf.Sym64{{}, {Name: 1, Info: function, Shndx: 1},
		{Name: uint32(2 + len(defines)), Info: function}})
	const head, entry = 64, 64
	at := uint64(head)
	place := func(n int) (off uint64) { off, at = at, at+uint64(n); return off }
	symtab, strtab, shstrtab := place(symbols.Len()), place(len(names)), place(len(sections))
	var b bytes.Buffer
	put(&b, elf.Header64{Ident: [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, Type: uint16(elf.ET_REL),
		Machine: uint16(elf.EM_X86_64), Version: 1, Shoff: at, Ehsize: head, Shentsize: entry, Shnum: 5, Shstrndx: 4})
	b.Write(symbols.Bytes())
	b.WriteString(names + sections)
	put(&b, []elf.Section64{{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Addralign: 1},
		{Name: 7, Type: uint32(elf.SHT_SYMTAB), Off: symtab, Size: uint64(symbols.Len()), Link: 3, Info: 1,
			Entsize: 24},
		{Name: 15, Type: uint32(elf.SHT_STRTAB), Off: strtab, Size: uint64(len(names))},
		{Name: 15, Type: uint32(elf.SHT_STRTAB), Off: shstrtab, Size: uint64(len(sections))},
	})
	return b.Bytes()
}
