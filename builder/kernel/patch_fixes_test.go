package kernel

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kimg/kimg/builder/kernel/diffs"
)

func TestFixesFor(t *testing.T) {
	for _, c := range []struct{ version, toolchain, want string }{
		{"4.20.6", "bookworm/gcc-12", "dtc-yylloc subcmd-realloc objtool-no-symtab selinux-pf-max"},
		{"4.20.6", "trixie/gcc-14", "dtc-yylloc tools-strlcpy subcmd-realloc objtool-no-symtab selinux-pf-max"},
		{"4.20.6", "bullseye/gcc-10", "dtc-yylloc"},
		{"5.5.19", "bullseye/gcc-10", "dtc-yylloc"},
		{"5.6", "bullseye/gcc-10", ""},
		{"5.4.59", "trixie/gcc-14", "dtc-yylloc tools-strlcpy subcmd-realloc objtool-no-symtab"},
		{"5.10.223", "bullseye/gcc-10", "gdb-constants"},
		{"5.11.22", "bookworm/gcc-12", "subcmd-realloc objtool-no-symtab"},
		{"5.16", "bookworm/gcc-12", "subcmd-realloc"},
		{"5.17-rc1", "bookworm/gcc-12", ""},
	} {
		era, err := EraFor(version(t, c.version), c.toolchain)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range FixesFor(version(t, c.version), era) {
			got = append(got, p.Name)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s with %s: %q, want %s", c.version, c.toolchain, got, c.want)
		}
	}
	for _, e := range eras {
		if list := FixesFor(e.From, e); len(list) > 0 {
			t.Errorf("era %s of its own needs %s", e.Range(), list[0].Name)
		}
	}
}

// TestFixesTable holds that every fix can be read, is told whole, and looks for
// its need only where it changes something.
func TestFixesTable(t *testing.T) {
	for _, f := range Fixes() {
		files, err := diffs.Parse(f.Name, f.patch().Text, 1)
		if err != nil {
			t.Error(err)
		}
		for _, n := range f.Needs {
			if !slices.ContainsFunc(files, func(d diffs.File) bool { return d.To == n.File }) {
				t.Errorf("%s looks into %s, which it does not change", f.Name, n.File)
			}
		}
		if f.What == "" || f.Why == "" || len(f.Commit) != 12 || f.Proven == "" || len(f.Needs) == 0 ||
			f.Before.Compare(f.From) <= 0 {
			t.Errorf("%s is not told whole: %+v", f.Name, f)
		}
	}
}

// TestFixApplied has one fix that the tree needs, one that it has already, one
// that it needs and that does not fit, and a person's patch on top.
func TestFixApplied(t *testing.T) {
	f, dir := newFixture(t), fakeTree(t)
	writeFile(t, filepath.Join(dir, "fs/half.c"), "half 1\n")
	fix := func(name, text string, needs ...Needle) Patch {
		return Patch{Name: name, Text: text, Strip: 1,
			Fix: &Fix{Name: name, What: "what", Why: "why", Commit: "0123456789ab", Needs: needs}}
	}
	list := []Patch{
		fix("needed", edit("fs/open.c", "open 1", "open 2"), Needle{File: "fs/open.c", Text: "open 1"}),
		fix("cured", edit("fs/gone.c", "gone", "went"), Needle{File: "fs/gone.c", Text: "gon"}),
		fix("backported", edit("fs/gone.c", "gone", "went"), Needle{File: "fs/gone.c", Text: "gone"},
			Needle{File: "fs/gone.c", Text: "gone", Absent: true}),
		fix("elsewhere", edit("fs/none.c", "a", "b"), Needle{File: "fs/none.c", Text: "a"}),
		fix("misfit", edit("fs/half.c", "half 1", "half 2")+edit("fs/gone.c", "other", "went"),
			Needle{File: "fs/half.c", Text: "half 1"}),
		mine("mine.patch", edit("fs/open.c", "open 2", "open 3")),
	}
	for range 2 {
		got, said, err := f.patched(f.pin(dir), list...)
		if err != nil || !strings.HasPrefix(got, "1000\ngone\nhalf 1\nopen 3\nTue") {
			t.Fatalf("vmlinux\n%s%v", got, err)
		}
		var told []string
		for _, line := range said.log {
			if strings.HasPrefix(line, "notice fix ") {
				told = append(told, line)
			}
		}
		if !slices.Equal(told, []string{"notice fix needed: what: why (0123456789ab)"}) {
			t.Errorf("what is told of fixes: %q", told)
		}
		n := slices.Index(said.log, "warning fix misfit does not apply to this tree and is left out")
		if (n < 0) != (said.compiled() == 0) {
			t.Errorf("a fix that does not fit is told when it was tried: %q", said.log)
		}
	}
}
