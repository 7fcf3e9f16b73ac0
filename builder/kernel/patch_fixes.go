package kernel

import (
	"embed"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
)

// Fix is a small patch of kimg's own for trees that do not compile with some toolchains that a user may choose, or
// whose scripts for gdb do not load.
type Fix struct {
	Name         string // of its file in fixes/, without .patch
	What         string // what it changes
	Why          string // the symptom
	Commit       string // mainline's, that did the same or better
	From, Before units.KernelVersion

	// What brings the symptom about, each from a version on; 0: any version does.
	GCC, Binutils, Glibc int // of GCC the major, of the others the minor number: 2.36 is 36

	Needs  []Needle // all of them; a late stable release may have the real cure
	Proven string   // where it was seen to fail without the fix and to compile with it
}

// Needle is a line that a file must have, or must not have, for a fix to be needed.
type Needle struct {
	File, Text string
	Absent     bool
}

// fixes is the table, in the order in which they are applied. An entry comes in
// when both the fault and the cure were seen, and "Proven" says where.
var fixes = []Fix{
	{
		Name: "dtc-yylloc", Commit: "e33a814e772c",
		What: "scripts/dtc: one yylloc, not two",
		Why:  "gcc 10 no longer makes one of the two, and the linker stops",
		From: v(4, 18), Before: v(5, 6), GCC: 10,
		Needs:  []Needle{{File: "scripts/dtc/dtc-lexer.l", Text: "YYLTYPE yylloc;"}},
		Proven: "dtc of 4.20 with trixie/gcc-14",
	},
	{
		Name: "tools-strlcpy", Commit: "6c4798d3f08b",
		What: "tools: no declaration of strlcpy where the C library has it",
		Why:  "glibc 2.38 has it, and objtool stops at the second one",
		From: v(4, 18), Before: v(5, 6), Glibc: 38, Needs: []Needle{
			{File: "tools/include/linux/string.h",
				Text: "extern size_t strlcpy(char *dest, const char *src, size_t size);"},
			{File: "tools/include/linux/string.h",
				Text: `#pragma GCC diagnostic ignored "-Wredundant-decls"`, Absent: true},
		},
		Proven: "objtool of 4.20 with trixie/gcc-14",
	},
	{
		Name: "subcmd-realloc", Commit: "52a9dab6d892",
		What: "tools/lib/subcmd: realloc is never asked for nothing",
		Why:  "gcc 12 sees that memory may be used after it was freed, and objtool does not compile",
		From: v(4, 18), Before: v(5, 17), GCC: 12, Needs: []Needle{
			{File: "tools/lib/subcmd/subcmd-util.h", Text: "\tvoid *ret = realloc(ptr, size);"},
			{File: "tools/lib/subcmd/subcmd-util.h", Text: "\t\tret = realloc(ptr, size);"},
		},
		Proven: "objtool of 4.20 with trixie/gcc-14",
	},
	{
		Name: "objtool-no-symtab", Commit: "1d489151e9f9",
		What: "objtool: an object without symbols is none of its business",
		Why:  "binutils 2.36 leaves an empty symbol table out, and objtool takes that for a fault",
		From: v(4, 18), Before: v(5, 12), Binutils: 36,
		Needs:  []Needle{{File: "tools/objtool/elf.c", Text: "\t\tWARN(\"missing symbol table\");"}},
		Proven: "objtool of 4.20, at an object of binutils 2.44",
	},
	{
		Name: "selinux-pf-max", Commit: "dfbd199a7cfe",
		What: "selinux: the building machine's address families are not counted",
		Why:  "glibc 2.35 knows more of them, and genheaders does not compile (with SELINUX)",
		From: v(4, 18), Before: v(5, 1), Glibc: 35, Needs: []Needle{
			{File: "security/selinux/include/classmap.h", Text: "#if PF_MAX > 45"},
			{File: "security/selinux/include/classmap.h", Text: "#include <linux/socket.h>", Absent: true},
		},
		Proven: "genheaders of 4.20 with trixie/gcc-14",
	},
	{
		Name: "gdb-constants", Commit: "6a59cb5158bf",
		What: "scripts/gdb: gdb computes the flags of mounts",
		Why:  "Python cannot read 1UL, and gdb has neither lx-version nor lx-mounts",
		From: v(5, 10), Before: v(5, 11),
		Needs:  []Needle{{File: "scripts/gdb/linux/constants.py.in", Text: "LX_VALUE(SB_RDONLY)"}},
		Proven: "gdb 16 with 5.10.223",
	},
}

//go:embed fixes/*.patch
var fixFiles embed.FS

// Fixes is the whole table, for showing.
func Fixes() []Fix { return slices.Clone(fixes) }

// FixesFor are those that a kernel may need with an era's toolchain; the tree itself shows whether it does.
func FixesFor(version units.KernelVersion, e Era) []Patch {
	var list []Patch
	for i := range fixes {
		if f := &fixes[i]; f.suits(version, e) {
			list = append(list, f.patch())
		}
	}
	return list
}

func (f *Fix) suits(version units.KernelVersion, e Era) bool {
	gcc, _ := strconv.Atoi(strings.TrimPrefix(e.CC, "gcc-"))
	s, err := suite.Parse(e.Suite)
	return err == nil && s.Toolchain != nil && version.AtLeast(f.From.Major, f.From.Minor) &&
		!version.AtLeast(f.Before.Major, f.Before.Minor) &&
		gcc >= f.GCC && s.Toolchain.Binutils >= f.Binutils && s.Toolchain.Glibc >= f.Glibc
}

func (f *Fix) patch() Patch {
	text, err := fixFiles.ReadFile("fixes/" + f.Name + ".patch")
	if err != nil {
		panic(err) // a test reads them all
	}
	return Patch{Name: f.Name, Text: string(text), Strip: 1, Fix: f}
}

// Line is the fix in one line.
func (f *Fix) Line() string { return fmt.Sprintf("%s: %s: %s (%s)", f.Name, f.What, f.Why, f.Commit) }

// Range is the fix's versions for people.
func (f *Fix) Range() string { return Era{From: f.From, Before: f.Before}.Range() }

// Cause is what brings the symptom about: "gcc 10 and later".
func (f *Fix) Cause() string {
	switch {
	case f.GCC > 0:
		return fmt.Sprintf("gcc %d and later", f.GCC)
	case f.Binutils > 0:
		return fmt.Sprintf("binutils 2.%d and later", f.Binutils)
	case f.Glibc > 0:
		return fmt.Sprintf("glibc 2.%d and later", f.Glibc)
	}
	return "any"
}
