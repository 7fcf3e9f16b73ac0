package spec

import (
	"errors"
	"os"
	"path/filepath"
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
		"sorted/10.patch", a, "sorted/2.diff", a, "sorted/1.patch", a,
		"sorted/v2-0000-cover-letter.patch", "words\n", "sorted/a.eml", a,
		"sorted/README", "words\n", "sorted/x.patch/y", "",
		"quilt/series", "# a comment\n\nsub/two.patch -p0 # why\n one.patch\n",
		"quilt/sub/two.patch", b, "quilt/one.patch", a, "quilt/not.patch", "",
		"fix.series", "From 0123 Mon Sep 17 00:00:00 2001\n"+a,
		"suse/series.conf", "a.patch -p1\n", "suse/a.patch", a)
	for name, c := range map[string]struct {
		paths []string
		want  string
	}{
		"none":      {nil, ""},
		"file":      {[]string{"one.patch"}, "one.patch 1"},
		"sorted":    {[]string{"sorted"}, "1.patch 1, 10.patch 1, 2.diff 1, a.eml 1"},
		"quilt":     {[]string{"quilt"}, "two.patch 0, one.patch 1"},
		"series":    {[]string{"quilt/series"}, "two.patch 0, one.patch 1"},
		"called so": {[]string{"fix.series"}, "fix.series 1"},
		"suse":      {[]string{"suse/series.conf"}, "a.patch 1"},
		"all":       {[]string{"one.patch", "suse/series.conf", "one.patch"}, "one.patch 1, a.patch 1, one.patch 1"},
	} {
		var paths, got []string
		for _, p := range c.paths {
			paths = append(paths, filepath.Join(dir, p))
		}
		list, err := ReadPatches(paths)
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
	if list, err := ReadPatches([]string{"one.patch"}); err != nil || len(list) != 1 {
		t.Errorf("a name without a directory: %+v, %v", list, err)
	}
}

func TestReadPatchesRefuses(t *testing.T) {
	dir := t.TempDir()
	files(t, dir, "secret", "s3cret\n", "empty/README", "", "up/series", "../secret\n",
		"abs/series", "/etc/passwd\n", "option/series", "a.patch -R\n",
		"strip/series", "a.patch -p99\n", "none/series", "# nothing\n", "gone/series", "gone.patch\n",
		"link/series", "l.patch\n",
		"evil.patch", strings.ReplaceAll(aPatch("a", "1"), "fs/a", "../../x"),
		"big.patch", strings.Repeat("x\n", maxPatchText/2)+aPatch("a", "1"))
	if err := os.Symlink("../secret", filepath.Join(dir, "link/l.patch")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"nothing": "no such file", "empty": "has no series file, and no file that ends in .patch",
		"up": `"../secret" leads out`, "abs": `"/etc/passwd" leads out`,
		"option": `"-R": want -pN`, "strip": `"-p99"`, "none": "it names no patch", "gone": "gone.patch",
		"link": "l.patch", "big.patch": "more than",
	} {
		_, err := ReadPatches([]string{filepath.Join(dir, name)})
		var spec *InputError
		if !errors.As(err, &spec) || spec.Field != "--patch" || !strings.Contains(err.Error(), want) ||
			strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: error %v, want one of --patch with %q", name, err, want)
		}
	}
	var bad *diffs.Error
	if _, err := ReadPatches([]string{filepath.Join(dir, "evil.patch")}); !errors.As(err, &bad) ||
		bad.Patch != "evil.patch" {
		t.Errorf("a patch that leads out of the tree: %v", err)
	}
}

// TestPatchText writes texts as a lock has them, and reads them back.
func TestPatchText(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for _, text := range []string{
		aPatch("a", "1"), "From: x\n\n---\n x | 2 +-\n\n" + aPatch("a", "# not: {yaml}") + "-- \n2.39\n\n\n",
		aPatch("a", "\r"), aPatch("a", "\xe4\xf6"), aPatch("a", "ä\u2028"),
		" leading\n", "\n\nlines\n", "\tleading\n", "no end", "", "trailing  \n \n\t\n", long + "\n" + long + "\n",
		"\ufeffmark\n", "...\n---\n...\n", "%YAML\n", "# x\n", "a\x00b\n", "a\u0085b\n", "\x1b[0m\n", "a: b\n- c\n",
	} {
		var buf strings.Builder
		enc := yaml.NewEncoder(&buf)
		enc.SetIndent(2)
		in := []PatchLock{{Path: "a", Text: PatchText(text)}, {Path: "b", Text: "y\n"}}
		if err := enc.Encode(in); err != nil {
			t.Fatal(err)
		}
		var out []PatchLock
		if err := yaml.Unmarshal([]byte(buf.String()), &out); err != nil || len(out) != 2 ||
			out[0].Text != in[0].Text || out[1].Text != "y\n" {
			t.Errorf("%q is written as\n%s\nand read as %+v, %v", text, buf.String(), out, err)
		}
	}
	text, err := yaml.Marshal(PatchLock{Path: "a", Text: PatchText(aPatch("open.c", "1"))})
	if err != nil || !strings.Contains(string(text), "\n    +++ b/fs/open.c\n") {
		t.Errorf("a lock's patch is not readable:\n%s", text)
	}
}

func FuzzPatchText(f *testing.F) {
	f.Add("--- a/x\n+++ b/x\n")
	f.Add("\tä\r\n x\x85")
	f.Fuzz(func(t *testing.T, text string) {
		b, err := yaml.Marshal(PatchLock{Text: PatchText(text)})
		if err != nil {
			t.Fatal(err)
		}
		var out PatchLock
		if err := yaml.Unmarshal(b, &out); err != nil || string(out.Text) != text {
			t.Errorf("%q is written as\n%s\nand read as %q, %v", text, b, out.Text, err)
		}
	})
}

// TestPatchesAsTheyCome pins what is applied: a mail decoded, and -p by the names unless a series says it.
func TestPatchesAsTheyCome(t *testing.T) {
	dir := t.TempDir()
	const bare = "diff --git drivers/misc/lab.h drivers/misc/lab.h\nnew file mode 100644\nindex 0000000..1111111\n" +
		"--- /dev/null\n+++ drivers/misc/lab.h\n@@ -0,0 +1 @@\n+#define LAB 1\n"
	const qp = "Subject: [PATCH] lab\nContent-Transfer-Encoding: quoted-printable\n\n" +
		"diff --git a/drivers/misc/lab.c b/drivers/misc/lab.c\nnew file mode 100644\n--- /dev/null\n" +
		"+++ b/drivers/misc/lab.c\n@@ -0,0 +1 @@\n+int lab =3D 1;\n"
	for name, text := range map[string]string{
		"1.patch": bare, "2.eml": qp, "series": "1.patch\n2.eml\n", "p1.series": "1.patch -p1\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string][]int{
		"1.patch": {0}, "2.eml": {1}, "series": {0, 1}, "p1.series": {1},
	} {
		list, err := ReadPatches([]string{filepath.Join(dir, name)})
		if err != nil || len(list) != len(want) {
			t.Errorf("%s: %+v, %v", name, list, err)
			continue
		}
		for i, p := range list {
			if p.Strip != want[i] || strings.Contains(string(p.Text), "=3D") {
				t.Errorf("%s: -p%d, want -p%d, of %q", name, p.Strip, want[i], p.Text)
			}
		}
	}
}
