package kconfig

import (
	"strings"
	"testing"
)

var tree = Files{
	"Kconfig": []byte(`mainmenu "Linux/$(ARCH) Configuration"
cc-option = $(success,$(CC) $(1))
source "arch/$(SRCARCH)/Kconfig"
source "drivers/Kconfig"
source "fs/Kconfig"
source 'lib/Kconfig'
osource "not/here/Kconfig"
`),
	"arch/x86/Kconfig": []byte(`config X86
	def_bool y
	select CRC32
config EXPERT
	bool "Expert"
config FUTEX
	bool "Futex" if EXPERT
	default y
	help
	  config INSIDE_HELP
	    bool "not a symbol"
config AFTER_HELP
	bool "After"
config NR_CPUS
	int "CPUs" if SMP
	range 2 MAX_CPUS if SMP
	default 8
config SMP
	bool "SMP"
config RELOCATABLE
	bool "Relocatable"
config RANDOMIZE_BASE
	bool "KASLR"
	depends on RELOCATABLE
config NEEDS_CC
	bool "Compiler"
	depends on $(cc-option,-mfoo)
choice
	prompt "Compression"
	default KERNEL_GZIP
config KERNEL_GZIP
	bool "gzip"
config KERNEL_LZ4
	bool "lz4"
endchoice
`),
	"arch/arm64/Kconfig": []byte("config ARM64_ERRATUM\n\tbool \"x\"\n"),
	"drivers/Kconfig": []byte(`menu "Device drivers"
	depends on HAS_IOMEM
config CRC32
	tristate
menuconfig NET
	bool "Net"
if NET
config VIRTIO
	tristate
config WIFI
	tristate "Wifi" if EXPERT || \
		DEBUG
	depends on !SLOW && (USB=y || PCI)
config HAND
	bool "by hand"
	select VIRTIO
rsource "sub/Kconf*"
endif
endmenu
`),
	"lib/Kconfig": []byte(`config BUS
	tristate "Bus"
config STICK
	tristate "Stick"
	depends on BUS
config STICK_DEBUG
	bool "Messages of the stick"
	depends on STICK && EXTRA
config STICK_LEDS
	bool "Lights of the stick"
	depends on STICK_DEBUG
config EXTRA
	bool "Extra"
config SELFTEST
	tristate "Test"
	depends on m
config SIZE
	hex "Size"
	range 0x10 0x20 if !EXTRA
	range 0x10 0x40
config TWICE
	bool "first"
	depends on NOWHERE
config TWICE
	bool "second"
	depends on EXTRA
config FORCED
	bool "Forced" if EXTRA
config FORCER
	tristate "Forcer"
	select FORCED if STICK
config ALWAYS
	def_bool y
	select DMA_OPS if GART || XEN
config DMA_OPS
	bool
config VDPA
	bool "vDPA"
	depends on DMA_OPS
config GART
	bool "GART"
config XEN
	bool "Xen"
config DULL
	bool
config ENUM
	bool "Enum"
	depends on SIZE >= 0x20 && !(BUS || EXTRA)
config UB
	bool "UB"
if UB
config CC_HAS_UB
	def_bool $(cc-option,-fub)
config UB_BOUNDS
	bool "Bounds"
	depends on CC_HAS_UB || CC_OTHER
endif
menuconfig KASAN
	bool "KASAN"
if KASAN
choice
	prompt "Mode"
	default KASAN_GENERIC
config KASAN_GENERIC
	bool "generic"
config KASAN_TAGS
	bool "tags"
endchoice
config KASAN_INLINE
	bool "inline"
	depends on KASAN_GENERIC || KASAN_TAGS
config KASAN_FAST
	bool "fast"
	depends on KASAN_TAGS
endif
config FI
	bool "Fault injection"
config DBGFS
	bool "debugfs"
config FI_DBGFS
	bool "debugfs of fault injection"
	depends on FI && X86 && DBGFS
config MIXED
	bool "Mixed"
	depends on EXTRA && (SLOW && BUS || HASTE) && !(UB && FI)
config WITHOUT
	bool "Without"
	depends on !FI && SELFMADE=y
config SELFMADE
	bool "Selfmade"
config RT_SUPPORT
	bool
config RT
	bool "Real time"
	depends on RT_SUPPORT
config RT_LAZY
	bool "Lazy"
	depends on RT
config COMPILE_TEST
	bool "Compile test"
config ABROAD
	bool "Of another machine"
	depends on ARM || COMPILE_TEST
config ROUND
	bool "Round"
	depends on ABOUT
config ABOUT
	bool "About"
	depends on ROUND
menu "Hidden"
	visible if EXTRA
config VEILED
	bool "Veiled"
endmenu
`),
	"fs/Kconfig": []byte(`config NFC
	bool "Near field"
config NFS_FS
	bool "NFS client"
config NFS_V4
	bool "NFS client, version 4"
config ROOT_NFS
	bool "root on NFS"
choice
	prompt "Timer"
	default HZ_250
config HZ_250
	bool "250"
config HZ_300
	bool "300"
endchoice
config HZ
	int
	default 250 if HZ_250
	default 300 if HZ_300
config 64BIT
	bool "64 bit" if "$(ARCH)" = "x86"
	default "$(ARCH)" != "i386"
config X86_32
	bool "32 bit"
	depends on !64BIT
`),
	"drivers/sub/Kconfig": []byte("config DEEP\n\tbool 'Deep'\n\tdepends on WIFI\n"),
}

func TestExplain(t *testing.T) {
	kt, err := Read(tree, "x86", "x86_64")
	if err != nil {
		t.Fatal(err)
	}
	kt.Elsewhere(tree)
	base := "CONFIG_X86=y\nCONFIG_HAS_IOMEM=y\nCONFIG_CRC32=y\nCONFIG_NET=y\nCONFIG_PCI=y\nCONFIG_KERNEL_GZIP=y\n" +
		"CONFIG_FUTEX=y\nCONFIG_SMP=y\nCONFIG_NR_CPUS=8\nCONFIG_MAX_CPUS=512\n"
	for _, c := range []struct{ name, asked, extra, want string }{
		{"NOSUCH_AT_ALL", "y", "", "no such symbol"},
		{"RELOCATABEL", "y", "", "no such symbol (did you mean RELOCATABLE?)"},
		{"relocatable", "y", "", "no such symbol: RELOCATABLE differs by case only"},
		{"LEDS", "n", "", "no such symbol (did you mean STICK_LEDS?)"},
		{"STICK_LED", "n", "", "no such symbol (did you mean STICK_LEDS?)"},
		{"DEBUG_STICK", "y", "", "no such symbol"},
		{"ARM64_ERRATUM", "y", "", "this architecture has no such symbol: it is in arch/arm64/Kconfig"},
		{"INSIDE_HELP", "y", "", "no such symbol"},
		{"RANDOMIZE_BASE", "y", "", "it depends on RELOCATABLE (which is n); --set RELOCATABLE=y turns that on"},
		{"CRC32", "n", "", "it is selected by X86, which is on"},
		{"FUTEX", "n", "", "it can only be changed with EXPERT (which is n)"},
		{"KERNEL_LZ4", "y", "", `it is one of the choice "Compression", in which KERNEL_GZIP was taken`},
		{"KERNEL_GZIP", "n", "", `it is the default of the choice "Compression": turn another one on: KERNEL_LZ4`},
		{"NR_CPUS", "9000", "", "it takes a value of type int from 2 to 512"},
		{"NR_CPUS", "y", "", "NR_CPUS takes a value of type int"},
		{"NET", "2", "", "NET is a bool: y or n"},
		{"NET", "m", "", "it is built in: it cannot be a module"},
		{"CRC32", "m", "", "it is built in: MODULES is n, so nothing is a module"},
		{"VIRTIO", "y", "", "it has no prompt: only HAND can select it"},
		{"WIFI", "y", "", "it depends on EXPERT (which is n) or DEBUG (which is n); --set EXPERT=y turns that on"},
		{"WIFI", "y", "CONFIG_EXPERT=y\nCONFIG_SLOW=y\n", "it depends on SLOW being off (it is y)"},
		{"DEEP", "y", "CONFIG_EXPERT=y\n", "it depends on WIFI (which is n); --set WIFI=y turns that on"},
		{"DEEP", "y", "",
			"it depends on WIFI (which is n); --set EXPERT=y --set WIFI=y together turn that on"},
		// A bool takes a condition that is m for met: it is y or n. A module does not.
		{"STICK_DEBUG", "y", "CONFIG_MODULES=y\nCONFIG_STICK=m\n",
			"it depends on EXTRA (which is n); --set EXTRA=y turns that on"},
		{"STICK_LEDS", "y", "CONFIG_MODULES=y\nCONFIG_STICK=m\nCONFIG_EXTRA=y\n",
			"it depends on STICK_DEBUG (which is n); --set STICK_DEBUG=y turns that on"},
		{"STICK", "y", "CONFIG_MODULES=y\nCONFIG_BUS=m\nCONFIG_STICK=m\n",
			"it depends on BUS (which is m); --set BUS=y turns that on"},
		{"STICK", "m", "CONFIG_MODULES=y\n", "it depends on BUS (which is n); --set BUS=y turns that on"},
		{"SELFTEST", "y", "CONFIG_MODULES=y\nCONFIG_SELFTEST=m\n", "it can only be a module"},
		{"SELFTEST", "m", "", "it can only be a module, and MODULES is n"},
		{"EXTRA", "m", "", "EXTRA is a bool: y or n"},
		{"EXTRA", "0x1", "", "EXTRA is a bool: y or n"},
		{"BUS", "2", "", "BUS is a tristate: y, m or n"},
		{"BUS", "m", "CONFIG_MODULES=y\nCONFIG_BUS=y\n", "it is built in: something that is built in selects it"},
		{"SIZE", "0x30", "", "it takes a value of type hex from 0x10 to 0x20"},
		{"SIZE", "0x50", "CONFIG_EXTRA=y\n", "it takes a value of type hex from 0x10 to 0x40"},
		{"TWICE", "y", "", "it depends on EXTRA (which is n); --set EXTRA=y turns that on"},
		{"FORCED", "n", "CONFIG_FORCED=y\nCONFIG_FORCER=m\nCONFIG_STICK=m\n",
			"it is selected by FORCER, which is on; --set FORCER=n turns it off"},
		{"FORCED", "n", "CONFIG_FORCED=y\nCONFIG_FORCER=m\n", "it can only be changed with EXTRA (which is n)"},
		{"FORCED", "n", "CONFIG_FORCED=y\nCONFIG_EXTRA=y\n", "its default stands"},
		{"DMA_OPS", "y", "CONFIG_ALWAYS=y\n", "it has no prompt: ALWAYS selects it with GART (which is n) or " +
			"XEN (which is n); --set GART=y does that"},
		{"VDPA", "y", "CONFIG_ALWAYS=y\n", "it depends on DMA_OPS (which is n); --set GART=y turns that on"},
		{"DULL", "y", "", "it has no prompt: the tree sets it by itself"},
		{"DULL", "n", "CONFIG_DULL=y\n", "it has no prompt: the tree sets it by itself"},
		{"ENUM", "y", "CONFIG_SIZE=0x10\nCONFIG_BUS=y\n",
			"it depends on SIZE>=0x20 (SIZE is 0x10) and the opposite of (BUS || EXTRA)"},
		{"VEILED", "y", "", "it depends on EXTRA (which is n); --set EXTRA=y turns that on"},
		// The way out, where several symbols are off, and where several hang on one.
		{"UB_BOUNDS", "y", "",
			"it depends on UB (which is n) and (CC_HAS_UB (which is n) or CC_OTHER (which is n)); " +
				"--set UB=y turns that on"},
		{"KASAN_INLINE", "y", "", "it depends on KASAN (which is n) and (KASAN_GENERIC (which is n) or " +
			"KASAN_TAGS (which is n)); --set KASAN=y turns that on"},
		{"KASAN_FAST", "y", "", "it depends on KASAN (which is n) and KASAN_TAGS (which is n); " +
			"--set KASAN=y --set KASAN_TAGS=y together turn that on"},
		{"FI_DBGFS", "y", "",
			"it depends on FI (which is n) and DBGFS (which is n); --set FI=y --set DBGFS=y together turn that on"},
		{"MIXED", "y", "CONFIG_UB=y\nCONFIG_FI=y\n", "it depends on EXTRA (which is n), ((SLOW (which is n) and " +
			"BUS (which is n)) or HASTE (which is n)) and the opposite of (UB && FI)"},
		{"WITHOUT", "y", "CONFIG_FI=y\n", "it depends on FI being off (it is y) and SELFMADE=y (SELFMADE is n); " +
			"--set FI=n --set SELFMADE=y together turn that on"},
		{"RT_LAZY", "y", "", "it depends on RT (which is n); RT: it depends on RT_SUPPORT (which is n); " +
			"RT_SUPPORT: it has no prompt: the tree sets it by itself"},
		{"ABROAD", "y", "", "it depends on ARM (which is n) or COMPILE_TEST (which is n)"},
		{"ROUND", "y", "", "it depends on ABOUT (which is n); ABOUT: it depends on ROUND (which is n); " +
			"ROUND: it depends on ABOUT (which is n); ABOUT: it depends on ROUND (which is n); " +
			"ROUND: it depends on ABOUT (which is n); ABOUT: it depends on ROUND (which is n)"},
		{"NFS", "y", "", "no such symbol (did you mean NFS_FS or NFS_V4?)"},
		{"NFX", "y", "", "no such symbol (did you mean NFC?)"},
		{"HZ", "300", "CONFIG_HZ=250\n", "it has no prompt: --set HZ_300=y makes it that"},
		{"HZ", "1000", "CONFIG_HZ=250\n", "it has no prompt: it is 250 with HZ_250 or 300 with HZ_300"},
		{"64BIT", "n", "CONFIG_64BIT=y\n", "the architecture that is built for decides it (--arch)"},
		{"X86_32", "y", "CONFIG_64BIT=y\n",
			"it depends on 64BIT being off (it is y); 64BIT: the architecture that is built for decides it (--arch)"},
		{"TWICE_", "y", "", "no such symbol (did you mean TWICE?)"},
		{"NEEDS_CC", "y", "", "its Kconfig does not say why; a test of the compiler may have failed"},
	} {
		got := kt.Explain(c.name, c.asked, ParseConfig([]byte(base+c.extra)))
		if got != c.want {
			t.Errorf("%s=%s: got  %s\n\twant %s", c.name, c.asked, got, c.want)
		}
	}
}

func TestCause(t *testing.T) {
	kt, err := Read(tree, "x86", "x86_64")
	if err != nil {
		t.Fatal(err)
	}
	final := ParseConfig([]byte("CONFIG_X86=y\nCONFIG_HAS_IOMEM=y\nCONFIG_NET=y\nCONFIG_KERNEL_GZIP=y\n"))
	for _, c := range []struct {
		set  string
		want Cause
	}{
		{"NOSUCH=y", Gone}, {"RANDOMIZE_BASE=y", Settable}, {"UB_BOUNDS=y", Settable}, {"KERNEL_LZ4=y", Settable},
		{"NR_CPUS=9000", Settable}, {"RT=y", Kernel}, {"RT_LAZY=y", Kernel}, {"ABROAD=y", Kernel}, {"ROUND=y", Kernel},
		{"NEEDS_CC=y", Compiler}, {"EXTRA=m", Kernel}, {"EXTRA=0", Kernel}, {"BUS=0", Kernel},
	} {
		name, value, _ := strings.Cut(c.set, "=")
		if got := kt.Cause(name, value, final); got != c.want {
			t.Errorf("%s: %v, want %v", c.set, got, c.want)
		}
	}
}

func TestBeneath(t *testing.T) {
	kt, err := Read(tree, "x86", "x86_64")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"STICK_LEDS": "STICK", "STICK": "", "RT_LAZY": "RT", "FI_DBGFS": "DBGFS", "KERNEL_LZ4": "KERNEL_GZIP",
		"VIRTIO": "HAND", "NOSUCH": "", "ROUND": "",
	} {
		of := func(s string) bool {
			return s == "STICK" || s == "RT" || s == "DBGFS" || s == "KERNEL_GZIP" || s == "HAND"
		}
		if got := kt.Beneath(name, of); got != want {
			t.Errorf("%s hangs on %q, want %q", name, got, want)
		}
	}
}

func TestExpr(t *testing.T) {
	c := Config{"A": "y", "M": "m", "N": "5", "S": `"text"`}
	for text, want := range map[string]Tri{
		"A": Yes, "M": Mod, "B": No, "!M": Mod, "!A": No, "A && M": Mod, "B || M": Mod,
		"!(A && B)": Yes, "N > 4": Yes, "N>=0x6": No, `S = "text"`: Yes, `S!="text"`: No,
		"A=y && !B": Yes, "m": Mod, "$(cc-option,-f(x)) && A": Yes, "B = n": Yes,
	} {
		e, rest, err := parseExpr(lex(text, nil))
		if err != nil || len(rest) > 0 {
			t.Errorf("parse %q: %v, rest %v", text, err, rest)
			continue
		}
		if got := e.eval(c); got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
	for _, bad := range []string{"", "A &&", "(A", "|| A", strings.Repeat("(", 100000), strings.Repeat("!", 100000)} {
		if _, _, err := parseExpr(lex(bad, nil)); err == nil {
			t.Errorf("parse %.20q: no error", bad)
		}
	}
}

func TestIncludeLoop(t *testing.T) {
	if _, err := Read(Files{"Kconfig": []byte("source \"Kconfig\"\n")}, "x86", "x86_64"); err == nil {
		t.Error("a file that includes itself was read")
	}
	if _, err := Read(Files{}, "x86", "x86_64"); err == nil {
		t.Error("a tree without Kconfig was read")
	}
}

func FuzzRead(f *testing.F) {
	for _, file := range tree {
		f.Add(string(file), "NET")
	}
	f.Add("choice\nendif\nconfig\nif (\nendchoice\nconfig A\nbool \"x\\", "A")
	f.Fuzz(func(t *testing.T, text, name string) {
		kt, err := Read(Files{"Kconfig": []byte(text)}, "x86", "x86_64")
		if err == nil {
			kt.Explain(name, "y", Config{})
			for s := range kt.Symbols {
				kt.Explain(s, "n", Config{s: "y"})
				kt.Explain(s, "y", Config{})
				kt.Cause(s, "y", Config{})
				kt.Beneath(s, func(string) bool { return false })
			}
		}
	})
}

func TestTrim(t *testing.T) {
	for text, want := range map[string]string{
		"# CONFIG_A is not set \nCONFIG_B=y\t\r\n\n": "# CONFIG_A is not set\nCONFIG_B=y\r\n\n",
		"CONFIG_C=\"x \"  ":                          "CONFIG_C=\"x \"",
		"CONFIG_A=y\n":                               "CONFIG_A=y\n",
		"":                                           "",
	} {
		if got := string(Trim([]byte(text))); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if sym, value := ParseLine("# CONFIG_A is not set \n"); sym != "A" || value != "n" {
		t.Errorf("%s=%s", sym, value)
	}
}
