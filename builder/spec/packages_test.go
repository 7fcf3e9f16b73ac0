package spec

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"

	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/pgp/pgptest"
)

// publicKey is a key, and the same in armor.
func publicKey(t *testing.T) (binary, armored []byte) {
	t.Helper()
	var b, a bytes.Buffer
	key := pgptest.NewKey(t, "owner", 0)
	if err := key.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	w, err := armor.Encode(&a, openpgp.PublicKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), a.Bytes()
}

func TestArchivesOfFile(t *testing.T) {
	dir := t.TempDir()
	binary, armored := publicKey(t)
	for name, b := range map[string][]byte{"k.gpg": binary, "k.asc": armored, "own.deb": nil, "plain": nil} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s, err := loadText(t, dir, `
include: [./own.deb, strace, ./plain, own.deb]
components: main,non-free-firmware,contrib,main
archives:
  - deb [signed-by=k.asc] http://h/x stable main
  - deb [arch=amd64 signed-by=./k.gpg] http://h/y ./
  - deb [signed-by=k.asc,k.gpg] http://h/z ./
`)
	if err == nil {
		err = s.Check()
	}
	if err != nil {
		t.Fatal(err)
	}
	q, err := s.Request()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(q.Include, " ") != "strace" || len(q.Debs) != 3 || q.Debs[1].From != filepath.Join(dir, "plain") {
		t.Errorf("included: %q, %+v", q.Include, q.Debs)
	}
	if got := strings.Join(q.Components, " "); got != "main contrib non-free-firmware" {
		t.Errorf("components: %s", got)
	}
	if len(q.Archives) != 3 || q.Archives[0].Key.Text != string(armored) || q.Archives[1].Key.Text != string(binary) ||
		q.Archives[1].Key.Path != "k.gpg" || q.Archives[0].Line().String() !=
		"deb [signed-by=k.asc] http://h/x stable main" {
		t.Errorf("archives: %+v", q.Archives)
	}
	if keys, err := archive.Keys([]byte(q.Archives[2].Key.Text)); err != nil || len(keys.Keys) != 2 ||
		q.Archives[2].Key.Path != "k.asc,k.gpg" {
		t.Errorf("of two files: %+v, %v", q.Archives[2], err)
	}
	for _, a := range q.Archives {
		if err := a.check(); err != nil {
			t.Error(err)
		}
		a.Key.Text += "x"
		if err := a.check(); err == nil {
			t.Error("another key is taken for the locked one")
		}
	}
}

func TestArchivesRefused(t *testing.T) {
	dir := t.TempDir()
	binary, _ := publicKey(t)
	for name, b := range map[string][]byte{"k.gpg": binary, "page": []byte("<html>"), "big": make([]byte, maxKey+1),
		"docker.sources": []byte("Types: deb\nURIs: https://h/linux\nSuites: trixie\nComponents: stable\n" +
			"Signed-By: /k.asc\n"), "v.list": []byte("# of v\ndeb [ signed-by=/v.gpg ]  http://v s main # v\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const line = "deb [signed-by=k.gpg] "
	for text, says := range map[string]string{
		"archives: deb [signed-by=none] http://h/x s main":       "read the key that signs http://h/x s",
		"archives: deb [signed-by=page] http://h/x s main":       "want public keys",
		"archives: deb [signed-by=big] http://h/x s main":        "more than 262144 bytes",
		"archives: deb [trusted=yes] http://h/x s main":          "yaml:1: archives: [trusted=yes] is refused",
		"archives: deb [signed-by=k.gpg,none] http://h/x s main": "/none: no such file",
		"archives: docker.sources": "docker.sources is a file of apt's: give what it says as lines: " +
			"'deb [signed-by=/k.asc] https://h/linux trixie stable'",
		"archives: ./v.list": "'deb [ signed-by=/v.gpg ] http://v s main'",
		"archives: deb [arch=armhf signed-by=k.gpg] http://h/x s main": "leaves out amd64",
		"archives:\n- " + line + "http://h/x s main\n- " + line + "http://h/x/ s extra": "kimg.yaml:3: " +
			"archives: http://h/x s is named twice",
		"components: [contrib]":     "kimg.yaml:1: components: contrib: want main among them",
		"components: [main, ../x]":  `"../x" is no component`,
		"include: none.deb":         "kimg.yaml:1: include: ",
		"include: [strace, ./none]": "there is no file ",
		"include: ../":              "is a directory: name the .deb files in it",
	} {
		s, err := loadText(t, dir, text)
		if err == nil {
			if err = s.Check(); err == nil {
				_, err = s.Request()
			}
		}
		var bad *InputError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want it to say %s", text, err, says)
		}
	}
	s := Default()
	s.Include = []string{"nothing-here.deb"}
	if err := s.Check(); err == nil || !strings.Contains(err.Error(), "is included by its name alone") {
		t.Errorf("%v", err)
	}
	q, err := Default().Request()
	if err != nil {
		t.Fatal(err)
	}
	q.Include = []string{"/etc/passwd"}
	if err := q.Check(); err == nil || !strings.Contains(err.Error(), "not a package name") {
		t.Errorf("a lock that includes a file: %v", err)
	}
}
