package kernel

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kimg/kimg/builder/kernel/diffs"
	"github.com/kimg/kimg/builder/kernel/tree"
	"github.com/kimg/kimg/container"
)

// mine is a job's patch of a person's own.
func mine(name, text string) Patch { return Patch{Name: name, Text: text, Strip: 1} }

// edit changes a file of one line.
func edit(name, from, to string) string {
	return "--- a/" + name + "\n+++ b/" + name + "\n@@ -1 +1 @@\n-" + from + "\n+" + to + "\n"
}

func (f *fixture) patched(tree *Tree, list ...Patch) (string, *lines, error) {
	f.t.Helper()
	j := f.job(tree)
	j.Patches = list
	got, said, err := f.build(j)
	return got["vmlinux"], said, err
}

// compiled counts the objects that a build made.
func (l *lines) compiled() int {
	n := 0
	for _, line := range l.log {
		if strings.Contains(line, "  CC  ") {
			n++
		}
	}
	return n
}

// volume returns what a command prints in a job's source volume.
func (f *fixture) volume(j Job, script string) string {
	f.t.Helper()
	var out strings.Builder
	err := container.Run(f.t.Context(), f.eng, &container.Cmd{
		Image: f.image, User: user, Args: []string{"sh", "-c", script}, Stdout: &out, Stderr: &out,
		Mounts: []container.Mount{
			{Volume: j.SourceVolume(), Target: srcDir}, {Volume: j.ObjectVolume(), Target: objDir},
		},
	})
	if err != nil {
		f.t.Fatalf("%s: %v\n%s", script, err, out.String())
	}
	return out.String()
}

// TestPatchDirectory adds, changes and removes patches of a directory, edits the
// directory under them, and holds what is compiled each time.
func TestPatchDirectory(t *testing.T) {
	t.Parallel()
	f, dir := newFixture(t), fakeTree(t)
	openTo2 := mine("2.patch", edit("fs/open.c", "open 1", "open 2"))
	openTo3 := mine("3.patch", edit("fs/open.c", "open 2", "open 3"))
	other := mine("other.patch", "--- /dev/null\n+++ b/fs/new/er.c\n@@ -0,0 +1 @@\n+new\n")
	for _, c := range []struct {
		name     string
		edit     func()
		patches  []Patch
		want     string
		compiled int
	}{
		{"none", nil, nil, "gone\nopen 1\n", 1},
		{"one", nil, []Patch{openTo2}, "gone\nopen 2\n", 1},
		{"the same", nil, []Patch{openTo2}, "gone\nopen 2\n", 0},
		{"one on the other", nil, []Patch{openTo2, openTo3}, "gone\nopen 3\n", 1},
		{"one more, of another file", nil, []Patch{openTo2, openTo3, other}, "gone\nopen 3\n", 0},
		{"an edit beside it", func() { writeFile(t, filepath.Join(dir, "fs/deep/er/x.h"), "y\n") },
			[]Patch{openTo2, openTo3, other}, "gone\nopen 3\n", 0},
		{"an edit below it", func() { writeFile(t, filepath.Join(dir, "fs/open.c"), "open 1\nmore\n") },
			[]Patch{mine("x", "--- a/fs/open.c\n+++ b/fs/open.c\n@@ -1,2 +1,2 @@\n-open 1\n+open 9\n"+
				" more\n")}, "gone\nopen 9\nmore\n", 1},
		{"none again", nil, nil, "gone\nopen 1\nmore\n", 1},
	} {
		if c.edit != nil {
			c.edit()
		}
		got, said, err := f.patched(f.pin(dir), c.patches...)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if !strings.HasPrefix(got, "1000\n"+c.want) || said.compiled() != c.compiled {
			t.Errorf("%s: vmlinux\n%swith %d objects compiled, want\n%s with %d", c.name, got, said.compiled(),
				c.want, c.compiled)
		}
	}
	left := f.volume(f.job(f.pin(dir)), "cd "+srcDir+" && ls -A && ls fs")
	if strings.Contains(left, "new") || strings.Contains(left, patchDir) {
		t.Errorf("with no patches, the volume has\n%s", left)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "fs/open.c")); err != nil || string(text) != "open 1\nmore\n" {
		t.Errorf("the person's own file is %q, %v", text, err)
	}
	// The patched file is a directory now: nothing of before may be in the way.
	if err := os.Remove(filepath.Join(dir, "fs/gone.c")); err != nil {
		t.Fatal(err)
	}
	anew := mine("x", "--- /dev/null\n+++ b/fs/gone.c\n@@ -0,0 +1 @@\n+x\n")
	if _, _, err := f.patched(f.pin(dir), anew); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "fs/gone.c/deep.c"), "deep\n")
	if got, _, err := f.patched(f.pin(dir)); err == nil || got != "" {
		t.Logf("cat of a directory: %q, %v", got, err) // the fake tree's own make fails at it, and that is all
	} else {
		t.Errorf("a directory was compiled: %q", got)
	}
	if left := f.volume(f.job(f.pin(dir)), "cat "+srcDir+"/fs/gone.c/deep.c"); left != "deep\n" {
		t.Errorf("the volume has %q", left)
	}
}

// TestPatchForms applies what git knows of files, to a tarball.
func TestPatchForms(t *testing.T) {
	f := newFixture(t)
	file := filepath.Join(t.TempDir(), "l.tar.gz")
	writeFile(t, file, string(tarGz(t, [2]string{"l/Makefile", fakeMakefile}, [2]string{"l/fs/open.c", "open\n"},
		[2]string{"l/fs/old.c", "a\nb\nc\n"}, [2]string{"l/scripts/gdb/one.py", "one\n"},
		[2]string{"l/crlf", "a\r\nb\r\n"}, [2]string{"l/bare", "x"}, [2]string{"l/gone/far", "x\n"})))
	patch := Patch{Name: "all.patch", Strip: 1, Text: `From: somebody
Subject: all at once
---
 many files

diff --git a/fs/old.c b/lib/new name.c
similarity index 60%
rename from fs/old.c
rename to lib/new name.c
--- a/fs/old.c
+++ b/lib/new name.c	
@@ -1,3 +1,3 @@
 a
-b
+B
 c
diff --git a/fs/open.c b/fs/copy.c
similarity index 100%
copy from fs/open.c
copy to fs/copy.c
diff --git a/run.sh b/run.sh
new file mode 100755
--- /dev/null
+++ b/run.sh
@@ -0,0 +1 @@
+run
diff --git a/scripts/gdb/one.py b/scripts/gdb/one.py
old mode 100644
new mode 100755
diff --git a/empty b/empty
new file mode 100644
index 0000000..e69de29
diff --git a/gone/far b/gone/far
deleted file mode 100644
--- a/gone/far
+++ /dev/null
@@ -1 +0,0 @@
-x
diff --git a/crlf b/crlf
--- a/crlf
+++ b/crlf
@@ -1,2 +1,2 @@
-a` + "\r" + `
+A` + "\r" + `
 b` + "\r" + `
diff --git a/bare b/bare
--- a/bare
+++ b/bare
@@ -1 +1 @@
-x
\ No newline at end of file
+y
\ No newline at end of file
-- 
2.39.0
`}
	tree := f.pin(file)
	got, _, err := f.patched(tree, patch)
	if err != nil || !strings.HasPrefix(got, "1000\nopen\nopen\nTue") {
		t.Fatalf("%q, %v", got, err)
	}
	j := f.job(tree)
	const see = "cd " + srcDir + " && find . -type f -size +0 ! -path './.kimg*' ! -name Makefile ! -name 'Kb*' " +
		"! -name Kconfig -printf '%P %m ' -exec od -An -c {} ';' | sort"
	want := "bare 644    y\ncrlf 644    A  \\r  \\n   b  \\r  \\n\nfs/copy.c 644    o   p   e   n  \\n\n" +
		"fs/open.c 644    o   p   e   n  \\n\n" +
		"lib/new name.c 644    a  \\n   B  \\n   c  \\n\nrun.sh 755    r   u   n  \\n\n" +
		"scripts/gdb/one.py 755    o   n   e  \\n\n"
	if got := f.volume(j, see); got != want {
		t.Errorf("the tree is\n%swant\n%s", got, want)
	}
	if got := f.volume(j, "cd "+srcDir+" && test ! -e gone && test -e empty && echo gone"); got != "gone\n" {
		t.Error("the directory of a removed file is there, or an empty file is not")
	}
	if _, _, err := f.patched(tree); err != nil {
		t.Fatal(err)
	}
	want = "bare 644    x\ncrlf 644    a  \\r  \\n   b  \\r  \\n\nfs/old.c 644    a  \\n   b  \\n   c  \\n\n" +
		"fs/open.c 644    o   p   e   n  \\n\n" +
		"gone/far 644    x  \\n\nscripts/gdb/one.py 644    o   n   e  \\n\n"
	if got := f.volume(j, see+" && test ! -e empty"); got != want {
		t.Errorf("without the patch the tree is\n%swant\n%s", got, want)
	}
}

// TestPatchFails holds what is said of patches that do not apply, and that the
// tree is as it was.
func TestPatchFails(t *testing.T) {
	t.Parallel()
	f, dir := newFixture(t), fakeTree(t)
	writeFile(t, filepath.Join(dir, "long"), strings.Repeat("l\n", 50)+"end\n")
	writeFile(t, filepath.Join(dir, "there"), "new\n")
	writeFile(t, filepath.Join(dir, "tabs"), "a\n\tb\nc\n")
	if err := os.Symlink("fs", filepath.Join(dir, "sf")); err != nil {
		t.Fatal(err)
	}
	good := mine("good.patch", edit("fs/open.c", "open 1", "open 2"))
	if got, _, err := f.patched(f.pin(dir), good); err != nil || !strings.Contains(got, "open 2") {
		t.Fatal(got, err)
	}
	for name, c := range map[string]struct {
		patch      Patch
		want, hint string
	}{
		"hunk": {mine("bad.patch", "--- a/long\n+++ b/long\n@@ -51 +51 @@\n-end\n+END\n--- a/fs/open.c\n"+
			"+++ b/fs/open.c\n@@ -1,2 +1,2 @@ void open(void)\n-other\n+x\n y\n@@ -7 +7 @@ z\n-z\n+u\n"),
			"apply patch bad.patch: it does not apply to Linux 6.12.1\n" +
				"  fs/open.c: hunk 1 of 2: @@ -1,2 +1,2 @@ void open(void) (line 8 of the patch)\n" +
				"  fs/open.c: hunk 2 of 2: @@ -7 +7 @@ z (line 12 of the patch)",
			"rebase it onto Linux 6.12.1"},
		"missing": {mine("bad.patch", edit("fs/none.c", "a", "b")),
			"  fs/none.c: there is no such file (line 1 of the patch)", "-pN after its name"},
		"exists": {mine("bad.patch", "--- /dev/null\n+++ b/fs/gone.c\n@@ -0,0 +1 @@\n+x\n"),
			"fs/gone.c: the patch creates it, and it exists already", "6.12.1"},
		"left": {mine("bad.patch", "--- a/long\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-l\n-l\n"), "long: ", "6.12.1"},
		"there": {mine("bad.patch", edit("there", "old", "new")),
			"there: this change, or a part of it, is in the tree already", "leave it out: Linux 6.12.1 has it"},
		"twice": {mine("bad.patch", edit("fs/open.c", "open 1", "open 2")),
			"fs/open.c: this change is made before it, by patch good.patch", "leave it out, or the other"},
		"blanks": {mine("bad.patch", "--- a/tabs\n+++ b/tabs\n@@ -1,3 +1,3 @@\n a\n-        b\n+        x\n c\n"),
			"tabs: it differs from the tree in blanks and tabs only (line 1 of the patch)", "tabs became blanks"},
		"link": {mine("bad.patch", edit("link", "root", "toor")),
			"link: refused: it is a symbolic link in the tree", ""},
		"through": {mine("bad.patch", edit("sf/open.c", "open 2", "open 3")),
			"sf/open.c: refused: it is a symbolic link", ""},
		"dir": {mine("bad.patch", edit("fs", "a", "b")), "fs: in the tree it is not a file", ""},
		"below": {mine("bad.patch", "--- /dev/null\n+++ b/Makefile/x\n@@ -0,0 +1 @@\n+x\n"),
			"its directory is a file in the tree", ""},
		"rename": {mine("bad.patch", "diff --git a/long b/fs/gone.c\nsimilarity index 100%\nrename from long\n"+
			"rename to fs/gone.c\n"), "fs/gone.c: the patch creates it, and it exists already", ""},
	} {
		_, _, err := f.patched(f.pin(dir), good, c.patch, mine("after.patch", edit("fs/open.c", "nothing", "x")))
		var fault *PatchError
		if !errors.As(err, &fault) || !strings.Contains(err.Error(), c.want) ||
			!strings.Contains(fault.Hint(), c.hint) || strings.Contains(err.Error(), "after.patch") {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
	// The tree was not touched, and is not brought anew.
	got, said, err := f.patched(f.pin(dir), good)
	if err != nil || !strings.Contains(got, "open 2") || said.compiled() != 0 {
		t.Errorf("after patches that did not apply: %q, %d objects, %v", got, said.compiled(), err)
	}
	var refused *diffs.Error
	if _, _, err := f.patched(f.pin(dir), mine("evil.patch", edit("../../x", "a", "b"))); !errors.As(err, &refused) {
		t.Errorf("error %v, want one that says where the patch leads", err)
	}
	_, said, err = f.patched(f.pin(dir), mine("fuzzy.patch",
		"--- a/long\n+++ b/long\n@@ -40,7 +40,7 @@\n x\n l\n l\n-l\n+m\n l\n l\n l\n"))
	if err != nil || !strings.Contains(strings.Join(said.log, "\n"),
		"warning patch fuzzy.patch: long: hunk 1 applied with fuzz 1") {
		t.Errorf("a hunk that hardly fits is not told: %v, %q", err, said.log)
	}
	_, said, err = f.patched(f.pin(dir), mine("mail.patch", edit("fs/open.c", "open 1", "open =3D 2")))
	if err != nil || !strings.Contains(strings.Join(said.log, "\n"),
		"warning patch mail.patch: fs/open.c: what it adds has =3D in it") {
		t.Errorf("what was saved undecoded is not told: %v, %q", err, said.log)
	}
}

// TestPatchInterrupted takes the mark of a volume away, as a build that is killed
// while it puts patched files into the tree leaves it.
func TestPatchInterrupted(t *testing.T) {
	f, dir := newFixture(t), fakeTree(t)
	good := mine("good.patch", edit("fs/open.c", "open 1", "open 2"))
	if _, _, err := f.patched(f.pin(dir), good); err != nil {
		t.Fatal(err)
	}
	f.volume(f.job(f.pin(dir)),
		"cd "+srcDir+" && mv "+sourceMark+" "+newMark+" && echo half > fs/open.c && echo half > fs/half.c")
	if got, _, err := f.patched(f.pin(dir), good); err != nil || !strings.HasPrefix(got, "1000\ngone\nopen 2\nTue") {
		t.Errorf("half a patched tree was taken for a whole one: %q, %v", got, err)
	}
	f.volume(f.job(f.pin(dir)), "cd "+srcDir+" && echo damaged > "+patchState)
	if got, _, err := f.patched(f.pin(dir), good); err != nil || !strings.HasPrefix(got, "1000\ngone\nopen 2\nTue") {
		t.Errorf("a damaged list of patches: %q, %v", got, err)
	}
}

func TestPatchClash(t *testing.T) {
	p := patched{Key: "k", Files: []patchedFile{{"a/b", "f"}, {"c", "absent"}}}
	for _, c := range []struct {
		sent, removed string
		clash         bool
		left          int
	}{
		{"x", "", false, 2}, {"a/b", "", false, 1}, {"", "c", false, 1}, {"a", "a/b", true, 1},
		{"c/d", "", true, 2}, {"a/bc", "", false, 2},
	} {
		d := tree.Delta{}
		if c.sent != "" {
			d.Send = tree.Files{{Path: c.sent}}
		}
		if c.removed != "" {
			d.Remove = []string{c.removed}
		}
		left := p.without(d)
		if p.clash(d) != c.clash || len(left.Files) != c.left || (left.Key == "k") != (c.left == 2) {
			t.Errorf("send %q, remove %q: clash %v, %+v", c.sent, c.removed, p.clash(d), left)
		}
	}
}
