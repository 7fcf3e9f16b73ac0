package diffs

import (
	"fmt"
	"strings"
	"testing"
)

// show is a patch's files in one line each, for tables.
func show(files []File) string {
	var b strings.Builder
	for _, f := range files {
		fmt.Fprintf(&b, "%c %s %c %d", f.Op, f.To, f.Mode, len(f.Hunks))
		if f.From != f.To {
			fmt.Fprintf(&b, " from %s", f.From)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

const change = "@@ -1,2 +1,2 @@ int f(void)\n-a\n+b\n c\n"

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		strip int
		want  string
	}{
		"plain": {"--- a/fs/open.c\n+++ b/fs/open.c\n" + change, 1, "m fs/open.c - 1\n"},
		"times": {"--- linux-5/fs/open.c\t2019-11-25 00:32:01.000000000 +0000\n" +
			"+++ linux-5-mine/fs/open.c\t2020-01-01 00:00:00 +0100\n" + change, 1, "m fs/open.c - 1\n"},
		"no prefix":    {"--- fs/open.c\n+++ fs/open.c\n" + change, 0, "m fs/open.c - 1\n"},
		"two prefixes": {"--- x/a/fs/open.c\n+++ x/b/fs/open.c\n" + change, 2, "m fs/open.c - 1\n"},
		"kept copy":    {"--- linux/fs/open.c.orig\n+++ linux/fs/open.c\n" + change, 1, "m fs/open.c - 1\n"},
		"two hunks":    {"--- a/x\n+++ b/x\n" + change + "@@ -9 +9,2 @@\n x\n+y\n", 1, "m x - 2\n"},
		"two files": {"--- a/x\n+++ b/x\n" + change + "Index: y\n====\n--- a/y\n+++ b/y\n" + change, 1,
			"m x - 1\nm y - 1\n"},
		"new": {"--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+x\n", 1, "c new - 1\n"},
		"new by time": {"--- a/new\t1970-01-01 01:00:00.000000000 +0100\n+++ b/new\t2020-01-01 00:00:00 +0000\n" +
			"@@ -0,0 +1 @@\n+x\n", 1, "c new - 1\n"},
		"new by hunk": {"--- a/new\n+++ b/new\n@@ -0,0 +1 @@\n+x\n", 1, "c new - 1\n"},
		"gone":        {"--- a/old\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n", 1, "d old - 1\n"},
		"emptied":     {"--- a/old\n+++ b/old\n@@ -1 +0,0 @@\n-x\n", 1, "m old - 1\n"},
		"git":         {"diff --git a/x b/x\nindex 123..456 100644\n--- a/x\n+++ b/x\n" + change, 1, "m x - 1\n"},
		"git new": {"diff --git a/x b/x\nnew file mode 100755\nindex 0..4\n--- /dev/null\n+++ b/x\n" +
			"@@ -0,0 +1 @@\n+x\n", 1, "c x x 1\n"},
		"git gone": {"diff --git a/x b/x\ndeleted file mode 100755\nindex 4..0\n--- a/x\n+++ /dev/null\n" +
			"@@ -1 +0,0 @@\n-x\n", 1, "d x - 1\n"},
		"git empty": {"diff --git a/x y b/x y\nnew file mode 100644\nindex 0..e69de29\n", 1, "c x y f 0\n"},
		"git mode":  {"diff --git a/x b/x\nold mode 100644\nnew mode 100755\n", 1, "m x x 0\n"},
		"git mode off": {"diff --git a/x b/x\nold mode 100755\nnew mode 100644\n--- a/x\n+++ b/x\n" + change, 1,
			"m x f 1\n"},
		"git rename": {"diff --git a/x b/d/y\nsimilarity index 100%\nrename from x\nrename to d/y\n", 1,
			"r d/y - 0 from x\n"},
		"git rename 0": {"diff --git x d/y\nsimilarity index 90%\nrename from x\nrename to d/y\nindex 1..2 100644\n" +
			"--- x\n+++ d/y\n" + change, 0, "r d/y - 1 from x\n"},
		"git rename 2": {"diff --git a/k/x b/k/y\nsimilarity index 100%\nrename from k/x\nrename to k/y\n", 2,
			"r y - 0 from x\n"},
		"git copy": {"diff --git a/x b/y\nsimilarity index 100%\ncopy from x\ncopy to y\n", 1, "k y - 0 from x\n"},
		"git quotes": {"diff --git \"a/\\303\\244\" \"b/\\303\\244\"\nold mode 100644\nnew mode 100755\n", 1,
			"m ä x 0\n"},
		"git two": {"diff --git a/x b/x\nold mode 100644\nnew mode 100755\ndiff --git a/y b/y\n--- a/y\n" +
			"+++ b/y\n" + change, 1, "m x x 0\nm y - 1\n"},
		"mail": {"From 1 Mon Sep 17\nSubject: [PATCH] x\n\nWhy\n--- so it is\n+++ and so\n---\n x | 2 +-\n" +
			" 1 file changed\n\ndiff --git a/x b/x\n--- a/x\n+++ b/x\n" + change + "-- \n2.39.0\n\n", 1, "m x - 1\n"},
		"CR everywhere": {strings.ReplaceAll("--- a/x\n+++ b/x\n"+change, "\n", "\r\n"), 1, "m x - 1\n"},
		"CR in a file":  {"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\r\n+b\r\n", 1, "m x - 1\n"},
		"no last line": {"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+b\n" +
			"\\ No newline at end of file", 1, "m x - 1\n"},
		"lost space":    {"--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n\n-a\n+b\n", 1, "m x - 1\n"},
		"doubled slash": {"--- a//x/./y\n+++ b/x/y\n" + change, 1, "m x/y - 1\n"},
	} {
		files, err := Parse(name, c.text, c.strip)
		if got := show(files); err != nil || got != c.want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
}

// TestHunks holds what GNU patch is given, and where a hunk was.
func TestHunks(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"as it is":      {"x\n--- a/x\n+++ b/x\n" + change, change},
		"CR in a file":  {"x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\r\n+b\r\n", "@@ -1 +1 @@\n-a\r\n+b\r\n"},
		"CR everywhere": {strings.ReplaceAll("x\n--- a/x\n+++ b/x\n"+change, "\n", "\r\n"), change},
		"lost space":    {"x\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n\n-a\n+b", "@@ -1,2 +1,2 @@\n \n-a\n+b\n"},
	} {
		files, err := Parse(name, c.text, 1)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := files[0].Text(); got != "--- a\n+++ b\n"+c.want {
			t.Errorf("%s: %q, want the hunk %q", name, got, c.want)
		}
		if h := files[0].Hunks[0]; h.Line != 4 || files[0].Line != 2 {
			t.Errorf("%s: the file at line %d, the hunk at line %d, want 2 and 4", name, files[0].Line, h.Line)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	plain := func(a, b string) string { return "--- " + a + "\n+++ " + b + "\n" + change }
	for name, c := range map[string]struct {
		text  string
		strip int
		want  string
	}{
		"up": {plain("a/../../etc/passwd", "b/../../etc/passwd"), 1,
			"line 1: refused: \"a/../../etc/passwd\" leads out"},
		"up in the strip": {plain("../x", "../x"), 1, "leads out of the tree"},
		"absolute":        {plain("/etc/passwd", "/etc/passwd"), 1, "absolute path"},
		"absolute, p0":    {plain("/etc/passwd", "/etc/passwd"), 0, "absolute path"},
		"git's":           {plain("a/.git/config", "b/.git/config"), 1, "not a file of the kernel's"},
		"GIT's":           {plain("a/x/.GIT/hooks/y", "b/x/.GIT/hooks/y"), 1, "not a file of the kernel's"},
		"kimg's mark":     {plain("a/.kimg-source", "b/.kimg-source"), 1, "not a file of the kernel's"},
		"kimg's objects":  {plain("a/.kimg-obj/x", "b/.kimg-obj/x"), 1, "not a file of the kernel's"},
		"strip too far":   {plain("x", "x"), 1, "no directory to drop: is its -p right?"},
		"strip 2":         {plain("a/x", "b/x"), 2, "no 2 directories to drop"},
		"strip missing":   {plain("a/x", "b/x"), 0, "names two files, a/x and b/x"},
		"minus":           {plain("a/x", "b/x"), -1, "want -p0"},
		"control":         {"--- \"a/x\\ny\"\n+++ \"b/x\\ny\"\n" + change, 1, "control character"},
		"quote":           {"--- \"a/x\n+++ \"b/x\n" + change, 1, "no end"},
		"link": {"diff --git a/x b/x\nnew file mode 120000\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n" +
			"+/etc/passwd\n", 1, "line 2: refused: it makes or changes a symbolic link"},
		"link changed": {"diff --git a/x b/x\nindex 1..2 120000\n--- a/x\n+++ b/x\n" + change, 1, "symbolic link"},
		"link gone": {"diff --git a/x b/x\ndeleted file mode 120000\n--- a/x\n+++ /dev/null\n@@ -1 +0,0 @@\n" +
			"-y\n", 1, "symbolic link"},
		"submodule": {"diff --git a/x b/x\nnew file mode 160000\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+y\n",
			1, "mode 160000"},
		"mode": {"diff --git a/x b/x\nold mode 1x\n", 1, "is not a mode"},
		"binary": {"diff --git a/x b/x\nindex 1..2 100644\nGIT binary patch\nliteral 1\nIcmZ\n", 1,
			"binary file"},
		"binary, short": {"Binary files a/x and b/x differ\n", 1, "binary file"},
		"rename out":    {"diff --git a/x b/y\nrename from ../x\nrename to y\n", 1, "leads out"},
		"rename to git": {"diff --git a/x b/y\nrename from x\nrename to .git/hooks/y\n", 1,
			"not a file of the kernel's"},
		"rename, names": {"diff --git a/x b/y\nrename from x\nrename to y\n--- a/x\n+++ b/z\n" + change, 1,
			"names two files, y and z"},
		"rename, no to": {"diff --git a/x b/y\nrename from x\n", 1, "a name is missing"},
		"git, names":    {"diff --git a/x b/x\n--- a/x\n+++ b/y\n" + change, 1, "names two files"},
		"git, nothing":  {"diff --git a/x b/x\nindex 1..2 100644\n", 1, "does not say what to do"},
		"git, untold":   {"diff --git a/x b/y\nold mode 100644\nnew mode 100755\n", 1, "cannot be separated"},
		"new, not null": {"diff --git a/x b/x\nnew file mode 100644\n--- a/x\n+++ b/x\n@@ -0,0 +1 @@\n+x\n", 1,
			"does not fit"},
		"new with old":   {"--- /dev/null\n+++ b/x\n" + change, 1, "lines of a file that is not there"},
		"no file at all": {"--- /dev/null\n+++ /dev/null\n" + change, 1, "neither of its names"},
		"short":          {"--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n a\n-b\n", 1, "cut short"},
		"fewer":          {"--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n a\n-b\n+c\n-- \n2.39\n", 1, "damaged"},
		"more":           {"--- a/x\n+++ b/x\n@@ -1,1 +1,1 @@\n-a\n+b\n+c\n", 1, "more lines than its header"},
		"other":          {"--- a/x\n+++ b/x\n@@ -1,1 +1,2 @@\n-a\n-a\n+b\n", 1, "other lines than its header"},
		"no file":        {change, 1, "a hunk without the names"},
		"context diff":   {"*** a/x\n--- b/x\n***************\n*** 1,2 ****\n", 1, "context diff"},
		"ed":             {"1d\n", 1, "it changes nothing"},
		"empty":          {"", 1, "it changes nothing"},
		"a reply":        {"> diff --git a/x b/x\n> @@ -1 +1 @@\n", 1, "it is quoted"},
		"a merge":        {"diff --cc fs/open.c\n@@@ -1,1 -1,1 +1,1 @@@\n", 1, "git's view of a merge"},
		"a page":         {"<!DOCTYPE html>\n<p>x\n", 1, "it is a web page"},
		"UTF-16":         {"\xff\xfed\x00", 1, "it is in UTF-16"},
		"compressed":     {"\xfd7zXZ\x00\x00", 1, "is it compressed?"},
	} {
		files, err := Parse(name, c.text, c.strip)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "read patch "+name) {
			t.Errorf("%s: %q, error %v, want one with %q", name, show(files), err, c.want)
		}
	}
}

// FuzzParse holds that whatever a patch says, it stays in the tree.
func FuzzParse(f *testing.F) {
	f.Add("--- a/fs/open.c\n+++ b/fs/open.c\n"+change, 1)
	f.Add("diff --git a/x b/d/y\nsimilarity index 90%\nrename from x\nrename to d/y\nindex 1..2 100644\n--- a/x\n"+
		"+++ b/d/y\n"+change, 1)
	f.Add("diff --git \"a/\\303\\244\" b/x\nnew file mode 100755\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+x\n"+
		"\\ No newline at end of file\n", 1)
	f.Add("--- a//.\n+++ a/./..x\n@@ -0,0 +1 @@\r\n+x\r\n", 0)
	f.Fuzz(func(t *testing.T, text string, strip int) {
		files, err := Parse("x", text, strip)
		if err == nil && len(files) == 0 {
			t.Error("nothing was read, and that was no error")
		}
		for _, file := range files {
			for _, name := range []string{file.From, file.To} {
				parts := strings.Split(name, "/")
				for _, p := range parts {
					if p == "" || p == ".." || p == "." || strings.EqualFold(p, ".git") ||
						strings.HasPrefix(p, ".kimg-") || strings.ContainsAny(p, "\n\t\x00") {
						t.Fatalf("%q is let pass", name)
					}
				}
			}
			again, err := Parse("x", "--- a\n+++ a\n"+strings.TrimPrefix(file.Text(), "--- a\n+++ b\n"), 0)
			if len(file.Hunks) > 0 && (err != nil || len(again) != 1 || again[0].Text() != file.Text()) {
				t.Fatalf("what GNU patch is given does not read back: %q: %v", file.Text(), err)
			}
		}
	})
}
