package diffs

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

func TestStrip(t *testing.T) {
	const add = "@@ -0,0 +1 @@\n+x\n"
	for text, want := range map[string]int{
		"diff --git drivers/misc/lab.h drivers/misc/lab.h\nnew file mode 100644\nindex 0..1\n--- /dev/null\n" +
			"+++ drivers/misc/lab.h\n" + add: 0,
		"--- /dev/null\n+++ drivers/misc/lab.h\n" + add:                       0,
		"--- fs/open.c\t2020-01-01\n+++ fs/open.c\t2020-01-02\n" + change:     0,
		"diff --git Makefile Makefile\n--- Makefile\n+++ Makefile\n" + change: 0,
		"diff --git fs/a.c fs/b.c\nrename from fs/a.c\nrename to fs/b.c\n":    1, // not alike: not known
		"diff --git a/fs/x.c b/fs/x.c\n--- a/fs/x.c\n+++ b/fs/x.c\n" + change: 1,
		"--- /dev/null\n+++ b/fs/x.c\n" + add:                                 1,
		"--- linux/fs/x.c\n+++ linux/fs/x.c\n" + change:                       1,
		"--- kernel/fs/x.c\n+++ kernel/fs/x.c\n" + change:                     1,
		"--- kernel/fork.c\n+++ kernel/fork.c\n" + change:                     0,
		"--- fs/x.c\n+++ fs/x.c\n" + change + "--- a/y\n+++ b/y\n" + change:   1,
		"--- linux-5.org/fs/x.c\n+++ linux-5/fs/x.c\n" + change:               1,
		"no patch at all\n": 1,
	} {
		if got := Strip(text); got != want {
			t.Errorf("%q: -p%d, want -p%d", text, got, want)
		}
	}
}

func TestDecode(t *testing.T) {
	const patch = "diff --git a/x b/x\nnew file mode 100644\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+int lab = 1;\n"
	quoted := strings.ReplaceAll(patch, "lab = 1", "lab =3D=\n 1")
	packed := base64.StdEncoding.EncodeToString([]byte(patch))
	packed = packed[:40] + "\n" + packed[40:] + "\n"
	head := func(how string) string {
		return "Subject: [PATCH] lab\nMIME-Version: 1.0\nContent-Type: text/plain; charset=\"utf-8\"\n" +
			"Content-Transfer-Encoding: " + how + "\n\n"
	}
	const from = "From 0123456789abcdef Mon Sep 17 00:00:00 2001\n"
	qp, b64 := head("quoted-printable")+quoted, head("base64")+packed
	html := "Subject: x\nContent-Type: text/html; charset=utf-8\n\n<pre>\n" + patch + "</pre>\n"
	for name, text := range map[string]string{
		"a mail": html, "a page": "<!DOCTYPE html>\n<html><body><pre>\n" + patch,
		"its only form": "Subject: x\nContent-Type: multipart/alternative; boundary=cut\n\n--cut\n" + html +
			"\n--cut--\n",
	} {
		if _, err := Decode(name, text); !errors.Is(err, errHTML) {
			t.Errorf("HTML, %s: %v", name, err)
		}
	}
	if _, err := Decode("x", "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n- --- a/x\n+++ b/x\n"); err == nil ||
		!strings.Contains(err.Error(), "gpg --decrypt") {
		t.Errorf("signed by PGP: %v", err)
	}
	if _, err := Parse("x", "    --- a/x\n    +++ b/x\n    @@ -1 +1 @@\n", 1); err == nil ||
		!strings.Contains(err.Error(), "indented") {
		t.Errorf("indented: %v", err)
	}
	for name, c := range map[string]struct {
		text string
		want int // files
	}{
		"quoted-printable": {qp, 1}, "base64": {b64, 1}, "from git": {from + qp, 1},
		"carriage returns": {strings.ReplaceAll(qp, "\n", "\r\n"), 1},
		"a mailbox":        {from + qp + "\n" + from + head("8bit") + patch + "\n" + from + b64, 3},
		"parts": {"Subject: x\nContent-Type: multipart/mixed; boundary=cut\n\n--cut\n" + qp + "\n--cut\n" + b64 +
			"\n--cut--\n", 2},
		"alternatives": {"Subject: x\nContent-Type: multipart/alternative; boundary=cut\n\n--cut\n" + b64 +
			"\n--cut\n" + html + "\n--cut--\n", 1},
		"a letter in HTML": {"Subject: x\nContent-Type: multipart/mixed; boundary=cut\n\n--cut\n" +
			"Content-Type: text/html\n\n<p>a &amp; b</p>\n--cut\n" + b64 + "\n--cut--\n", 1},
		"as it is": {head("8bit") + patch, 1},
	} {
		text, err := Decode(name, c.text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		files, err := Parse(name, text, 1)
		if err != nil || len(files) != c.want {
			t.Errorf("%s: %d files, %v, of\n%s", name, len(files), err, text)
		}
		for _, f := range files {
			if !strings.Contains(f.Text(), "+int lab = 1;") {
				t.Errorf("%s: %q", name, f.Text())
			}
		}
	}
	const context = "--- a/x\n+++ b/x\n@@ -1,4 +1,5 @@\n int a;\n \n \tlong\n+int lab = 1;\n int b;\n"
	flowed := func(more, text string) string {
		return "Subject: x\nContent-Type: text/plain; charset=UTF-8;\n format=flowed" + more +
			"\n\nHello, a \nletter.\n" + text + "-- \nme\n"
	}
	stuffed := strings.ReplaceAll(context, "\n ", "\n  ")
	trimmed := strings.Replace(stuffed, "  \n", "\n", 1)
	for name, text := range map[string]string{
		"stuffed": flowed("", stuffed), "not stuffed": flowed("", context), "trimmed": flowed("", trimmed),
		"broken":           flowed("", strings.Replace(trimmed, "int lab ", "int lab \n", 1)),
		"deleted":          flowed("; delsp=yes", strings.Replace(trimmed, "lab ", "lab  \n", 1)),
		"carriage returns": strings.ReplaceAll(flowed("", stuffed), "\n", "\r\n"),
	} {
		text, err := Decode(name, text)
		var files []File
		if err == nil {
			files, err = Parse(name, text, 1)
		}
		if err != nil || len(files) != 1 || !strings.Contains(files[0].Text(), "\n int a;\n") ||
			!strings.Contains(files[0].Text(), "\n \tlong\n+int lab = 1;\n int b;\n") {
			t.Errorf("flowed, %s: %v in\n%s", name, err, text)
		}
	}
	if _, err := Decode("x", flowed("", strings.Replace(stuffed, "+int lab", "+int\nlab", 1))); err == nil ||
		!strings.Contains(err.Error(), "format=flowed") {
		t.Errorf("flowed and damaged: %v", err)
	}
	if text, err := Decode("x", patch); err != nil || text != patch {
		t.Errorf("a plain patch became %q, %v", text, err)
	}
	if _, err := Decode("x", head("base64")+"!!!!\n"); err == nil || !strings.Contains(err.Error(), "decode the mail") {
		t.Errorf("damaged base64: %v", err)
	}
	_, err := Parse("x", "\x1b[1mdiff --git a/x b/x\x1b[m\n\x1b[32m+x\x1b[m\n", 1)
	if err == nil || !strings.Contains(err.Error(), "colours") {
		t.Errorf("colours: %v", err)
	}
}
