package builder

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/kimg/kimg/builder/kernel/diffs"
	"github.com/kimg/kimg/internal/units"
)

// aPatch is a patch of one line of fs/NAME.
func aPatch(name, to string) string {
	return "--- a/fs/" + name + "\n+++ b/fs/" + name + "\n@@ -1 +1 @@\n-x\n+" + to + "\n"
}

// files writes files below dir, by name and text in turn.
func files(t *testing.T, dir string, all ...string) {
	t.Helper()
	for i := 0; i < len(all); i += 2 {
		name := filepath.Join(dir, all[i])
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(all[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadPatches(t *testing.T) {
	dir := t.TempDir()
	a, b := aPatch("a", "1"), strings.ReplaceAll(aPatch("b", "1"), "a/fs", "fs")
	b = strings.ReplaceAll(b, "b/fs", "fs")
	files(t, dir, "one.patch", a,
		"sorted/10.patch", a, "sorted/2.diff", a, "sorted/1.patch", a, "sorted/"+coverLetter, "words\n", "sorted/README", "words\n", "sorted/x.patch/y", "",
		"quilt/series", "# a comment\n\nsub/two.patch -p0 # why\n one.patch\n", "quilt/sub/two.patch", b, "quilt/one.patch", a, "quilt/not.patch", "",
		"suse/series.conf", "a.patch -p1\n", "suse/a.patch", a)
	for name, c := range map[string]struct {
		paths []string
		want  string
	}{
		"none":   {nil, ""},
		"file":   {[]string{"one.patch"}, "one.patch 1"},
		"sorted": {[]string{"sorted"}, "1.patch 1, 10.patch 1, 2.diff 1"},
		"quilt":  {[]string{"quilt"}, "two.patch 0, one.patch 1"},
		"series": {[]string{"quilt/series"}, "two.patch 0, one.patch 1"},
		"suse":   {[]string{"suse/series.conf"}, "a.patch 1"},
		"all":    {[]string{"one.patch", "suse/series.conf", "one.patch"}, "one.patch 1, a.patch 1, one.patch 1"},
	} {
		var paths, got []string
		for _, p := range c.paths {
			paths = append(paths, filepath.Join(dir, p))
		}
		list, err := readPatches(paths)
		for _, p := range list {
			got = append(got, p.Path+" "+string('0'+rune(p.Strip)))
			if p.SHA256 != units.DigestOf([]byte(p.Text)) || strings.Contains(p.Path, dir) {
				t.Errorf("%s: %+v", name, p)
			}
		}
		if err != nil || strings.Join(got, ", ") != c.want {
			t.Errorf("%s: %q, %v, want %s", name, got, err, c.want)
		}
	}
	t.Chdir(dir)
	if list, err := readPatches([]string{"one.patch"}); err != nil || len(list) != 1 {
		t.Errorf("a name without a directory: %+v, %v", list, err)
	}
}

func TestReadPatchesRefuses(t *testing.T) {
	dir := t.TempDir()
	files(t, dir, "secret", "s3cret\n", "empty/README", "", "up/series", "../secret\n", "abs/series", "/etc/passwd\n", "option/series", "a.patch -R\n",
		"strip/series", "a.patch -p99\n", "none/series", "# nothing\n", "gone/series", "gone.patch\n", "link/series", "l.patch\n",
		"evil.patch", strings.ReplaceAll(aPatch("a", "1"), "fs/a", "../../x"), "big.patch", strings.Repeat("x\n", maxPatchText/2)+aPatch("a", "1"))
	if err := os.Symlink("../secret", filepath.Join(dir, "link/l.patch")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"nothing": "no such file", "empty": "has no series file, and no file that ends in .patch", "up": `"../secret" leads out`, "abs": `"/etc/passwd" leads out`,
		"option": `"-R": want -pN`, "strip": `"-p99"`, "none": "it names no patch", "gone": "gone.patch", "link": "l.patch", "big.patch": "more than",
	} {
		_, err := readPatches([]string{filepath.Join(dir, name)})
		var spec *SpecError
		if !errors.As(err, &spec) || spec.Field != "--patch" || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: error %v, want one of --patch with %q", name, err, want)
		}
	}
	var bad *diffs.Error
	if _, err := readPatches([]string{filepath.Join(dir, "evil.patch")}); !errors.As(err, &bad) || bad.Patch != "evil.patch" {
		t.Errorf("a patch that leads out of the tree: %v", err)
	}
}

// TestPatchText writes texts as a lock has them, and reads them back.
func TestPatchText(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for _, text := range []string{
		aPatch("a", "1"), "From: x\n\n---\n x | 2 +-\n\n" + aPatch("a", "# not: {yaml}") + "-- \n2.39\n\n\n", aPatch("a", "\r"), aPatch("a", "\xe4\xf6"), aPatch("a", "ä\u2028"),
		" leading\n", "\n\nlines\n", "\tleading\n", "no end", "", "trailing  \n \n\t\n", long + "\n" + long + "\n", "\ufeffmark\n", "...\n---\n...\n", "%YAML\n", "# x\n", "a\x00b\n", "a\u0085b\n", "\x1b[0m\n", "a: b\n- c\n",
	} {
		var buf strings.Builder
		enc := yaml.NewEncoder(&buf)
		enc.SetIndent(2)
		in := []PatchLock{{Path: "a", Text: patchText(text)}, {Path: "b", Text: "y\n"}}
		if err := enc.Encode(in); err != nil {
			t.Fatal(err)
		}
		var out []PatchLock
		if err := yaml.Unmarshal([]byte(buf.String()), &out); err != nil || len(out) != 2 || out[0].Text != in[0].Text || out[1].Text != "y\n" {
			t.Errorf("%q is written as\n%s\nand read as %+v, %v", text, buf.String(), out, err)
		}
	}
	text, err := yaml.Marshal(PatchLock{Path: "a", Text: patchText(aPatch("open.c", "1"))})
	if err != nil || !strings.Contains(string(text), "\n    +++ b/fs/open.c\n") {
		t.Errorf("a lock's patch cannot be read by a person:\n%s", text)
	}
}

func FuzzPatchText(f *testing.F) {
	f.Add("--- a/x\n+++ b/x\n")
	f.Add("\tä\r\n x\x85")
	f.Fuzz(func(t *testing.T, text string) {
		b, err := yaml.Marshal(PatchLock{Text: patchText(text)})
		if err != nil {
			t.Fatal(err)
		}
		var out PatchLock
		if err := yaml.Unmarshal(b, &out); err != nil || string(out.Text) != text {
			t.Errorf("%q is written as\n%s\nand read as %q, %v", text, b, out.Text, err)
		}
	})
}

// TestPatchesPinned holds how patches are pinned, frozen, replayed and told.
func TestPatchesPinned(t *testing.T) {
	dir := t.TempDir()
	files(t, dir, "one.patch", aPatch("a", "1"), "two.patch", aPatch("b", "1"), "same.patch", aPatch("a", "1"))
	read := func(names ...string) []PatchLock {
		t.Helper()
		for i := range names {
			names[i] = filepath.Join(dir, names[i])
		}
		list, err := readPatches(names)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	l := fixture(t)
	l.Kernel.Patches = read("one.patch", "two.patch")
	if fact := patchFact(l.Kernel.Patches); !strings.HasSuffix(fact, " one.patch two.patch") || strings.Contains(fact, dir) {
		t.Errorf("what plan shows: %q", fact)
	}
	if a, b := patchFact(read("one.patch", "two.patch")), patchFact(read("two.patch", "one.patch")); a == b {
		t.Errorf("the order of patches does not count: %s", a)
	}
	in := l.inputs()
	if i := slices.IndexFunc(in, func(i Input) bool { return i.Kind == "patch" && i.Name == "two.patch" }); i < 0 || in[i].SHA256 != units.DigestOf([]byte(aPatch("b", "1"))) {
		t.Errorf("the manifest does not name the patch: %+v", in[:3])
	}
	for _, c := range []struct {
		now  []PatchLock
		same bool
	}{{read("one.patch", "two.patch"), true}, {read("same.patch", "two.patch"), true}, {read("two.patch", "one.patch"), false}, {read("one.patch"), false}, {nil, false}} {
		now := fixture(t)
		now.Kernel.Patches = c.now
		var frozen *FrozenError
		if err := now.unmoved(l); errors.As(err, &frozen) == c.same {
			t.Errorf("--frozen with %s: %v", patchFact(c.now), err)
		}
	}
	for _, c := range []struct {
		asked []string
		ok    bool
	}{{[]string{"one.patch", "two.patch"}, true}, {[]string{"same.patch", "two.patch"}, true}, {[]string{"two.patch"}, false}} {
		s := Default()
		s.Lock, s.Given = "l", []string{"patch"}
		for _, name := range c.asked {
			s.Patches = append(s.Patches, filepath.Join(dir, name))
		}
		var spec *SpecError
		if err := s.contradicts(l); (err == nil) != c.ok || !c.ok && (!errors.As(err, &spec) || spec.Field != "--patch") {
			t.Errorf("--patch %v over the lock: %v", c.asked, err)
		}
	}
	l.Toolchain.Request = "trixie/gcc-14"
	l.Kernel.Fixes = fixLocks(l.Kernel.fixes(l.Toolchain.Request))
	if i := slices.IndexFunc(l.inputs(), func(i Input) bool {
		return i.Kind == "fix" && i.Name == "subcmd-realloc" && i.Version == "52a9dab6d892"
	}); i < 0 {
		t.Errorf("the manifest names no fix of a chosen toolchain: %+v", l.Kernel.Fixes)
	}
	var frozen *FrozenError
	if err := fixture(t).unmoved(l); !errors.As(err, &frozen) {
		t.Errorf("--frozen with other fixes: %v", err)
	}
	s := Default()
	s.NoFixes, s.Given = true, []string{"no-fixes"}
	if err := s.contradicts(l); err == nil || s.contradicts(&Lock{Kernel: KernelLock{NoFixes: true}}) != nil {
		t.Errorf("--no-fixes over a lock: %v", err)
	}
	damaged := l.Kernel
	damaged.Patches = slices.Clone(damaged.Patches)
	damaged.Patches[0].Text += "x"
	if _, err := damaged.patches(); err == nil {
		t.Error("a lock's text that is not that of its digest is used")
	}
	if list, err := l.Kernel.patches(); err != nil || len(list) != 2 || list[1].Name != "two.patch" || list[1].Strip != 1 {
		t.Errorf("%+v, %v", list, err)
	}
}
