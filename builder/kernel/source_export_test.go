package kernel

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/progress"
)

func TestExportSource(t *testing.T) {
	f, dir := newFixture(t), fakeTree(t)
	if err := os.Remove(filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "Makefile"), strings.Replace(fakeMakefile, "id -u > $@;",
		"mkdir -p $(O)/include/generated $(O)/fs; echo made > $(O)/include/generated/autoconf.h; "+
			"echo 'savedcmd_fs/open.o := ccache gcc-14 -I./include -c -o fs/open.o ../fs/open.c' "+
			"> $(O)/fs/.open.o.cmd; id -u > $@;", 1))
	out := t.TempDir()
	e := SourceExport{Source: filepath.Join(out, "source"), Generated: filepath.Join(out, "generated")}
	j := f.job(f.pin(dir))
	for range 2 { // the second replaces the first
		task := progress.Start(nil, "export", "")
		commands, err := ExportSource(t.Context(), f.eng, j, e, task)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(commands), `"file": "`+e.Source+`/fs/open.c"`) {
			t.Errorf("compile_commands.json:\n%s", commands)
		}
		for _, name := range []string{"source/fs/open.c", "source/Kconfig", "generated/include/generated/autoconf.h"} {
			if _, err := os.Stat(filepath.Join(out, name)); err != nil {
				t.Error(err)
			}
		}
		for _, name := range []string{"source/.kimg-obj", "source/.kimg-source", "source.kimg-new", "source.kimg-old"} {
			if _, err := os.Lstat(filepath.Join(out, name)); err == nil {
				t.Errorf("%s is there", name)
			}
		}
	}
}

func TestUnpackStaysInside(t *testing.T) {
	outside := t.TempDir()
	for _, entries := range [][]tar.Header{
		{{Typeflag: tar.TypeReg, Name: "../x", Mode: 0o644}},
		{{Typeflag: tar.TypeSymlink, Name: "a", Linkname: outside}, {Typeflag: tar.TypeReg, Name: "a/x", Mode: 0o644}},
		{{Typeflag: tar.TypeSymlink, Name: "a", Linkname: ".."}, {Typeflag: tar.TypeReg, Name: "a/x", Mode: 0o644}},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range entries {
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		up := t.TempDir()
		dir := filepath.Join(up, "dir")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		_ = unpack(t.Context(), &b, dir) // refused, or written inside
		for _, d := range []string{outside, up} {
			if _, err := os.Lstat(filepath.Join(d, "x")); err == nil {
				t.Errorf("%v: written outside", entries)
			}
		}
	}
}

func TestGDBScript(t *testing.T) {
	got := string(GDBScript("/home/me/linux", "/out/generated"))
	want := "set substitute-path /kimg/src /home/me/linux\nset substitute-path /kimg/obj /out/generated\n"
	if !strings.HasSuffix(got, want) {
		t.Errorf("got %q", got)
	}
	want = "set substitute-path " + DebugSource + ` /my\ \"trees\"/a\\b` + "\n"
	if got := string(GDBScript(`/my "trees"/a\b`, "")); !strings.Contains(got, want) {
		t.Errorf("a path of gdb's own signs: %s", got)
	}
	if got := string(GDBScript("/src", "")); strings.Contains(got, "/kimg/obj") {
		t.Errorf("got %q", got)
	}
}
