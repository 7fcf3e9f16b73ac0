package spec

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/units"
)

// loadText reads a kimg.yaml of this text.
func loadText(t *testing.T, dir, text string) (Spec, error) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, File), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(dir)
}

// What looks like a list is one.
func TestSpecFileLists(t *testing.T) {
	for _, tt := range []struct{ text, set, include, fragments string }{
		{"set: KASAN=y\n", "KASAN=y", "", ""},
		{"set: KASAN=y, UBSAN=n NR_CPUS=8\n", "KASAN=y UBSAN=n NR_CPUS=8", "", ""},
		{"set: [KASAN=y, UBSAN=n]\n", "KASAN=y UBSAN=n", "", ""},
		{"set: {KASAN: y, UBSAN: false, NR_CPUS: 8}\n", "KASAN=y UBSAN=n NR_CPUS=8", "", ""},
		{"set:\n  KASAN: on\n  LOCALVERSION: \"no\"\n", "KASAN=y LOCALVERSION=no", "", ""},
		{"set:\n  - KASAN: y\n  - UBSAN=n\n", "KASAN=y UBSAN=n", "", ""},
		{"set: 'CMDLINE=\"a=b,c=d\"'\n", `CMDLINE="a=b,c=d"`, "", ""},
		{"set: LOCALVERSION=-a,b\n", "LOCALVERSION=-a,b", "", ""},
		{"set:\ninclude:\n", "", "", ""},
		{"include: strace,gdb\n", "", "strace gdb", ""},
		{"include: strace gdb\n", "", "strace gdb", ""},
		{"include:\n  - strace, gdb\n  - vim\n", "", "strace gdb vim", ""},
		{"fragments: /a,b.config\n", "", "", "/a,b.config"},
	} {
		s, err := loadText(t, t.TempDir(), tt.text)
		got := []string{strings.Join(s.Set, " "), strings.Join(s.Include, " "), strings.Join(s.Fragments, " ")}
		if err != nil || !slices.Equal(got, []string{tt.set, tt.include, tt.fragments}) {
			t.Errorf("%q: %q, %v", tt.text, got, err)
		}
	}
}

// Errors name the file, the line, the key and what was wanted; no type of Go's, and no flag.
func TestSpecFileErrors(t *testing.T) {
	for _, tt := range []struct {
		text string
		want string // after the file's name; lines
	}{
		{"suite: trixie\n---\nsuite: bookworm\n", ":2: there is a second document: want one"},
		{"fragment: lab.config\n", `:1: unknown key "fragment": did you mean fragments?`},
		{"Suite: trixie\n", `:1: unknown key "Suite": did you mean suite?`},
		{"set:\n  KASAN: y\n  KASAN: n\n", ":3: set: KASAN is there already, in line 2"},
		{"set: [KASAN=y, CONFIG_KASAN=n]\n", ":1: set: KASAN is there already, in line 1"},
		{"suite: trixie\nsuite: sid\n", ":2: suite is there already, in line 1"},
		{"- a\n", ":1: want a kimg.yaml with the keys kernel, suite,"},
		{"just words\n", ":1: want a kimg.yaml with the keys"},
		{"jobs: many\nverify-tar: maybe\nsize: much\nset: {KASAN: [y]}\nsuite: [a]\n",
			":1: jobs: \"many\": want a number\n:2: verify-tar: \"maybe\": want true or false\n" +
				":3: size: parse size \"much\"\n:4: set: KASAN: want y, m, n, a number or a text here\n" +
				":5: suite: want one value here"},
		{"suite: trixie\n\tset: A=y\n", ":2: a tab indents this line"},
		{"size: 2048\n", ":1: size: 2K is not a size for a root filesystem: want 64M to 1T"},
		{"kernel: suite\nsuite: sarge\n", `:2: suite: unknown suite "sarge"`},
		{"set:\n  KASAN:\n", ":2: set: KASAN: want y, m, n, a number or a text here"},
		{"set:\n  NO-SYMBOL: y\n", `:2: set: "NO-SYMBOL=y": want SYM=VALUE`},
		{"set:\n  - A=y\n  - KASAN\n", `:3: set: "KASAN": want SYM=VALUE`},
		{"include: [strace, strace=]\n", `:1: include: "" is not a version of a package: want strace=VERSION, ` +
			"as apt has it"},
		{"include: strace:amd64\n", `:1: include: "strace:amd64" is not a package name: packages are `},
		{"include: strace/trixie\n", ":1: include: there is no file "},
		{"include: [strace=1, strace=2]\n", ":1: include: strace is to be both 1 and 2"},
		{"include: [strace, No]\n", `:1: include: "No" is not a package name`},
		{"\nfragments: [gone.config]\n", ":2: fragments: read "},
		{"config: gone.config\n", ":1: config: read "},
		{"kernel: ''\n", ":1: kernel: is empty"},
		{"jobs: 2\nno-fixes: 'yes'\n", `:2: no-fixes: "yes" is a text: want true or false, without quotes`},
		{"initramfs: \"true\"\n", `:1: initramfs: "true" is a text: want true or false, without quotes`},
		{"jobs: \"4\"\n", `:1: jobs: "4" is a text: want a number, without quotes`},
		{"privileged: 1\n", `:1: privileged: "1": want true or false`},
		{"jobs: 2\ntoolchain: sarge\n", `:2: toolchain: choose toolchain "sarge": there is none of that suite`},
		{"toolchain: trixie/gcc-99\n", `:1: toolchain: choose toolchain "trixie/gcc-99": trixie has gcc-14`},
	} {
		dir := t.TempDir()
		s, err := loadText(t, dir, tt.text)
		if err == nil {
			err = s.Check()
		}
		if err == nil {
			t.Errorf("%q is taken", tt.text)
			continue
		}
		got := strings.Split(err.Error(), "\n")
		want := strings.Split(tt.want, "\n")
		if len(got) != len(want) {
			t.Errorf("%q: %v, want %d lines", tt.text, err, len(want))
			continue
		}
		for i := range want {
			if !strings.HasPrefix(got[i], filepath.Join(dir, File)+want[i]) {
				t.Errorf("%q: %q, want %q", tt.text, got[i], want[i])
			}
		}
		if strings.Contains(err.Error(), "--") || strings.Contains(err.Error(), "[]string") {
			t.Errorf("%q: %v", tt.text, err)
		}
	}
}

// TestBools reads YAML's words for what is on and off, of every key that is either.
func TestBools(t *testing.T) {
	for _, key := range strings.Fields("initramfs no-fixes verify-tar allow-unsigned privileged export-source") {
		for word, want := range map[string]bool{"true": true, "yes": true, "On": true, "false": false, "NO": false} {
			s, err := loadText(t, t.TempDir(), key+": "+word+"\n")
			_, at := fields(&s)
			if err != nil || at[key].Bool() != want {
				t.Errorf("%s: %s: %v, %v", key, word, at[key], err)
			}
		}
		if s, err := loadText(t, t.TempDir(), key+": 'true'\n"); err == nil {
			_, at := fields(&s)
			t.Errorf("%s: 'true' is taken as %v", key, at[key])
		}
	}
	s := Default()
	_, at := fields(&s)
	n := 0
	for _, v := range at {
		if v.Kind() == reflect.Bool {
			n++
		}
	}
	if n != 6 {
		t.Errorf("there are %d keys that are on or off: name them above", n)
	}
}

// TestSplit is of what a flag is given, which is read as a file's text is.
func TestSplit(t *testing.T) {
	for text, want := range map[string]string{"strace, gdb": "strace|gdb", "strace gdb": "strace|gdb",
		"./my dir/x.deb": "./my dir/x.deb", " gdb": "gdb", "a.deb,b": "a.deb|b"} {
		if got := strings.Join(Split("include", text), "|"); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	if got := Split("components", "main contrib"); !slices.Equal(got, []string{"main", "contrib"}) {
		t.Errorf("components: %q", got)
	}
	s := Default()
	for p, want := range map[string]string{"strace/trixie": "PKG=VERSION names a version",
		"http://x/y.deb": "is an address"} {
		s.Include = []string{p}
		if err := s.checkDebs(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", p, err, want)
		}
	}
}

// TestLocated finds where it was asked for what archives have not.
func TestLocated(t *testing.T) {
	dir := t.TempDir()
	s, err := loadText(t, dir, "kernel: suite:linux-source-6.1\ninclude:\n  - gdb\n  - strace=1\n"+
		"components: [main,\n  new]\narchives:\n  - deb [signed-by=/k] http://a.example/x ./\n")
	if err != nil {
		t.Fatal(err)
	}
	line, err := archive.ParseLine(s.Archives[0])
	if err != nil {
		t.Fatal(err)
	}
	gone := errors.New("gone")
	for want, err := range map[string]error{
		":3: include: x: find packages: ": fmt.Errorf("x: %w", &archive.UnknownError{Names: []string{"gdb"}}),
		":4: include: include strace=1: ": &archive.VersionError{Name: "strace", Version: "1"},
		":6: components: ":                &archive.ComponentError{Component: "new"},
		":8: archives: use archive ":      &archive.LineError{Line: line, Err: gone},
		":1: kernel: find the suite's ":   &kernel.NoPackageError{},
	} {
		var input *InputError
		if got := s.Located(err); !strings.HasPrefix(got.Error(), filepath.Join(dir, File)+want) ||
			!errors.As(got, &input) {
			t.Errorf("%v, want %s", got, want)
		}
	}
	for _, err := range []error{nil, gone, &archive.UnknownError{Names: []string{"of-another"}}} {
		if got := s.Located(err); got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
}

// What a flag gave is called as the flag is, over a file with the same key.
func TestFlagsErrorsNameTheFlag(t *testing.T) {
	s, err := loadText(t, t.TempDir(), "size: 2G\nset: A=y\n")
	if err != nil {
		t.Fatal(err)
	}
	s.Set = append(s.Set, "KASAN")
	if err := s.Check(); err == nil || !strings.HasPrefix(err.Error(), "--set: ") {
		t.Errorf("%v", err)
	}
}

func TestPatchesOfTheFile(t *testing.T) {
	dir := t.TempDir()
	s, err := loadText(t, dir, "patches: gone.patch\n")
	if err != nil {
		t.Fatal(err)
	}
	want := filepath.Join(dir, File) + ":1: patches: read patch: "
	if _, err := s.Request(); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v", err)
	}
}

// TestNamesOfTheFile has a kernel that is none, and a file that is not read.
func TestNamesOfTheFile(t *testing.T) {
	dir := t.TempDir()
	s, err := loadText(t, dir, "suite: trixie\nkernel: trunk\n")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Request(); err == nil || !strings.HasPrefix(err.Error(), filepath.Join(dir, File)+":2: kernel: ") {
		t.Errorf("%v", err)
	}
	name := filepath.Join(dir, File)
	if err := os.Rename(name, strings.TrimSuffix(name, "yaml")+"yml"); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.HasSuffix(err.Error(), "kimg.yml, which kimg does not read: "+
		"call it kimg.yaml") {
		t.Errorf("%v", err)
	}
}

func gz(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write([]byte(text))
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A compressed config is pinned as what is in it.
func TestCompressedConfig(t *testing.T) {
	const text = "# Linux/x86 6.1.0 Kernel Configuration\nCONFIG_A=y\n"
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"c.gz": gz(t, text), "cut.gz": gz(t, text)[:30], "arm.gz": gz(t, strings.Replace(text, "x86", "arm64", 1)),
		"big.gz": gz(t, strings.Repeat(text, MaxConfig/len(text)+1)), "f.gz": gz(t, "CONFIG_F=y\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := Default()
	s.Config, s.Fragments = filepath.Join(dir, "c.gz"), []string{filepath.Join(dir, "f.gz")}
	q, err := s.Request()
	if err != nil || q.Config.Text != text || q.Config.SHA256 != units.DigestOf([]byte(text)) ||
		q.Config.Fragments[0].Text != "CONFIG_F=y\n" {
		t.Errorf("%+v, %v", q.Config, err)
	}
	for name, want := range map[string]string{
		"cut.gz": "cut.gz: unexpected EOF", "arm.gz": "it was written for arm64", "big.gz": "it unpacks to more than",
	} {
		s.Config = filepath.Join(dir, name)
		if _, err := s.Request(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
