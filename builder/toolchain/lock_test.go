package toolchain

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
)

func locked(name string) archive.Locked {
	return archive.Locked{Name: name, Version: "1:1.0~rc1-1", Arch: "amd64",
		Filename: "pool/main/" + name[:1] + "/" + name + "/" + name + "_1.0~rc1-1_amd64.deb",
		Size:     int64(len(name)), SHA256: units.DigestOf([]byte(name))}
}

func testLock(t *testing.T) *Lock {
	t.Helper()
	of, err := suite.Parse("trixie")
	if err != nil {
		t.Fatal(err)
	}
	return &Lock{Target: "trixie", Suite: of, Date: testDate, InRelease: units.DigestOf(nil),
		Base: []archive.Locked{locked("base-files"), locked("dpkg")}, Packages: []archive.Locked{locked("gcc-14")}}
}

func TestLockRoundTrip(t *testing.T) {
	l := testLock(t)
	b, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(b, []byte("\n  - {name: ")); n != 3 {
		t.Errorf("%d lines for 3 packages:\n%s", n, b)
	}
	back, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := back.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(b), string(again)); d != "" {
		t.Errorf("encoded again (-first +second):\n%s", d)
	}
	if back.Ref() != l.Ref() || l.Ref() != "kimg-toolchain:trixie-"+string(l.Digest()) || len(l.Digest()) != 64 {
		t.Errorf("ref %s became %s", l.Ref(), back.Ref())
	}
	// In other files, too: a person's lock and the manifest hold it.
	for name, codec := range map[string]struct {
		marshal   func(any) ([]byte, error)
		unmarshal func([]byte, any) error
	}{"yaml": {yaml.Marshal, yaml.Unmarshal}, "json": {json.Marshal, json.Unmarshal}} {
		b, err := codec.marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		var back Lock
		if err := codec.unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		if back.Digest() != l.Digest() {
			t.Errorf("%s: another digest after %s", name, b)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	b, err := testLock(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	good := string(b)
	for _, test := range []struct{ name, lock, want string }{
		{"nothing", "", "unknown toolchain"},
		{"another target", strings.Replace(good, "target: trixie", "target: potato", 1),
			`unknown toolchain "potato": want one of bullseye, bullseye-deb, bookworm, bookworm-gcc-11, `},
		{"another suite", strings.Replace(good, "suite: trixie", "suite: potato", 1), `unknown suite "potato"`},
		{"an unknown field", good + "more: true\n", "field more not found"},
		{"no packages", good[:strings.Index(good, "packages:")], "packages"},
		{"a package without a digest", regexp.MustCompile(`, sha256: \w+`).ReplaceAllString(good, ""), "parse digest"},
		{"a package twice", good + good[strings.LastIndex(good, "  - "):], "is there twice"},
		{"a package that is no file", strings.Replace(good, "_amd64.deb,", "_amd64.deb/..,", 1),
			"has no name, no size, no file"},
	} {
		if _, err := Parse([]byte(test.lock)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q in it", test.name, err, test.want)
		}
	}
}

// Whatever an image is made of changes its name, and nothing else does.
func TestRefNamesTheInputs(t *testing.T) {
	image, base := testLock(t).Ref(), testLock(t).baseRef()
	for _, test := range []struct {
		name        string
		change      func(*Lock)
		image, base bool // their names change
	}{
		{"nothing", func(*Lock) {}, false, false},
		{"the same packages of a newer release", func(l *Lock) { l.InRelease = units.DigestOf([]byte("x")) }, false,
			false},
		{"a package", func(l *Lock) { l.Packages[0].SHA256 = units.DigestOf([]byte("x")) }, true, false},
		{"a package more", func(l *Lock) { l.Packages = append(l.Packages, locked("make")) }, true, false},
		{"a package of the base", func(l *Lock) { l.Base[0].SHA256 = units.DigestOf([]byte("x")) }, true, true},
		{"the order of the base", func(l *Lock) { slices.Reverse(l.Base) }, true, true},
		{"the date", func(l *Lock) { l.Date = l.Date.Add(time.Second) }, true, true},
		{"the target", func(l *Lock) { l.Target = Imaging }, true, false},
	} {
		l := testLock(t)
		test.change(l)
		if got := l.Ref() != image; got != test.image {
			t.Errorf("%s: the image's name changed: %v", test.name, got)
		}
		if got := l.baseRef() != base; got != test.base {
			t.Errorf("%s: the base's name changed: %v", test.name, got)
		}
	}
	if !strings.HasSuffix(base, "-"+string(units.DigestOf(testLock(t).baseInputs()))) {
		t.Errorf("the base's name %s does not have the whole digest of its inputs", base)
	}
	for _, test := range []struct {
		name  string
		text  *[]byte
		more  string
		image bool // its name changes
	}{
		{"Dockerfile.builder", &dockerfile, "RUN true\n", true},
		{"a comment of Dockerfile.builder", &dockerfile, "# It is short.\n", false},
		{"hugepages.c", &hugepages, "int x;\n", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer func(was []byte) { *test.text = was }(*test.text)
			*test.text = append(slices.Clone(*test.text), test.more...)
			if l := testLock(t); (l.Ref() != image) != test.image || l.baseRef() != base {
				t.Errorf("%s over %s", l.Ref(), l.baseRef())
			}
		})
	}
	t.Run("what is left out", func(t *testing.T) {
		defer func(was []string) { dropped = was }(dropped)
		dropped = dropped[1:]
		if l := testLock(t); l.Ref() == image || l.baseRef() == base {
			t.Errorf("%s over %s", l.Ref(), l.baseRef())
		}
	})
}

// The images are put together from facts of their suites: each is to have what it
// always had.
func TestContents(t *testing.T) {
	for target, want := range map[Target]string{
		"bullseye":        "bullseye: gcc-10 gcc-9",
		"bookworm":        "bookworm: gcc-12 pkgconf",
		"trixie":          "trixie: gcc-14 pkgconf",
		"bookworm-gcc-11": "bookworm: gcc-11 pkgconf",
		"trixie-gcc-12":   "trixie: gcc-12 pkgconf",
		"trixie-gcc-13":   "trixie: gcc-13 pkgconf",
		"bullseye-deb":    "bullseye: gcc-10 gcc-9 dpkg-dev rsync",
		"bookworm-deb":    "bookworm: gcc-12 pkgconf dpkg-dev debhelper rsync",
		"trixie-arm64":    "trixie: gcc-14 pkgconf",
		"trixie-riscv64":  "trixie: gcc-14 pkgconf",
		"bookworm-arm64":  "bookworm: gcc-12 pkgconf",
		"trixie-deb":      "trixie: gcc-14 pkgconf dpkg-dev debhelper rsync",
	} {
		c, err := target.contents(arch.Default)
		if err != nil {
			t.Error(err)
			continue
		}
		all, cross := strings.Join(c.packages, " "), ""
		if _, name, ok := strings.Cut(string(target), "-"); ok && (name == "arm64" || name == "riscv64") {
			cross = map[string]string{"arm64": "-aarch64-linux-gnu", "riscv64": "-riscv64-linux-gnu"}[name]
			var ok bool
			libc := "libc6-dev-" + name + "-cross" // for users' own programs
			if all, ok = strings.CutSuffix(all, " "+c.packages[0]+cross+" "+libc); !ok {
				t.Errorf("%s has no %s%s or no %s", target, c.packages[0], cross, libc)
			}
		}
		rest := strings.TrimSuffix(all, " "+strings.Join(kernelTools, " "))
		if got := c.suite.Name + ": " + rest; got != want {
			t.Errorf("%s: %s, want %s", target, got, want)
		}
	}
	if _, err := ParseTarget("noble"); err == nil || !strings.Contains(err.Error(), "trixie-gcc-13") {
		t.Errorf("a suite without a toolchain: %v", err)
	}
}

// The shipped locks are of the targets as they are now, for each architecture of engines, and Dockerfile.builder has a
// stage for each.
func TestShippedLocks(t *testing.T) {
	for _, target := range Targets() {
		if !bytes.Contains(dockerfile, []byte("\nFROM installed AS "+target.stage()+"\n")) {
			t.Errorf("Dockerfile.builder has no stage %s", target.stage())
		}
		for _, engine := range target.Engines() {
			shippedLock(t, target, engine)
		}
	}
	if link, err := os.Readlink("../../Dockerfile.builder"); err != nil ||
		link != "builder/toolchain/Dockerfile.builder" {
		t.Errorf("Dockerfile.builder in the root: %q, %v", link, err)
	}
}

func shippedLock(t *testing.T, target Target, engine arch.Arch) {
	of, err := target.contents(engine)
	if err != nil {
		t.Fatal(err)
	}
	name := LockPath(target, engine)
	l, err := Load(target, engine)
	if err != nil {
		t.Error(err)
		return
	}
	b, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile("../../" + name)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(file), string(b)); d != "" {
		t.Errorf("%s is not as Encode writes it (-file +encoded):\n%s", name, d)
	}
	if l.Target != target || l.Suite.Name != of.suite.Name || l.Arch() != engine {
		t.Errorf("%s is the lock of %s on %s for %s", name, l.Target, l.Suite, l.Arch())
	}
	has := map[string]bool{}
	for _, p := range slices.Concat(l.Base, l.Packages) {
		if has[p.Name] {
			t.Errorf("%s: %s is locked twice", name, p.Name)
		}
		has[p.Name] = true
	}
	for _, p := range slices.Concat(of.suite.Toolchain.Base, of.packages, []string{"base-files", "dpkg", "libc6"}) {
		if !has[p] {
			t.Errorf("%s: %s is not locked: run kimg toolchain relock", name, p)
		}
	}
}

// crossRE is what a cross compiler's version has behind that of the compiler, and compilerRE are the packages of what
// makes objects: its name, and for what.
var (
	crossRE    = regexp.MustCompile(`cross\d+$`)
	compilerRE = regexp.MustCompile(`^(gcc-\d+|binutils)(-[a-z0-9-]+-linux-gnu)?$`)
)

// Engines of all architectures compile with the same compiler, assembler and linker, be they their own or cross ones:
// else one lock would be other bits.
func TestSameCompilers(t *testing.T) {
	n := 0
	for _, target := range Targets() {
		of := arch.Default
		for _, a := range arch.All {
			if strings.HasSuffix(string(target), "-"+a.Name) {
				of = a
			}
		}
		versions := map[string]string{}
		for _, engine := range target.Engines() {
			l, err := Load(target, engine)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range l.Packages {
				m := compilerRE.FindStringSubmatch(p.Name)
				// Debian's own compilers have no suffix, but for binutils and in trixie both names.
				if m == nil || m[2] != "-"+of.Package() && (m[2] != "" || of != engine) {
					continue
				}
				version := crossRE.ReplaceAllString(p.Version, "")
				if was := versions[m[1]]; was != "" && was != version {
					t.Errorf("%s on %s: %s is %s, and another is %s", target, engine, p.Name, p.Version, was)
				}
				versions[m[1]] = version
				n++
			}
		}
	}
	if n < 40 {
		t.Errorf("%d compilers and binutils: are these all?", n)
	}
}

// An imaging image is for the guests of one architecture: it has the firmware of their machine, and of qemu-user's
// programs theirs alone.
func TestImagingForEach(t *testing.T) {
	for _, c := range []struct{ file, images string }{
		{"/usr/share/qemu/opensbi-riscv64-generic-fw_dynamic.bin", "imaging-riscv64"},
		{"/usr/bin/qemu-aarch64", "imaging imaging-arm64"}, // the first has no qemu-user
		{"/usr/bin/qemu-riscv64", "imaging imaging-riscv64"},
		{"/usr/bin/qemu-ppc64le", "imaging imaging-ppc64el"},
		{"/usr/share/qemu/slof.bin", "imaging-ppc64el"},
		{"/usr/bin/qemu-s390x", "imaging"},
		{"/usr/bin/qemu-img", "imaging imaging-arm64 imaging-riscv64 imaging-ppc64el"},
		{"/usr/share/man/man1/x.1", ""},
	} {
		var in []string
		for _, a := range arch.All {
			if target := ImagingFor(a); !drop(target.dropped(arch.Default), c.file) {
				in = append(in, string(target))
			}
		}
		if got := strings.Join(in, " "); got != c.images {
			t.Errorf("%s is in %q, want %q", c.file, got, c.images)
		}
	}
	if !slices.Equal(Trixie.dropped(arch.Default), dropped) || ImagingFor(arch.Arch{}) != Imaging {
		t.Error("what an image of the default architecture lacks has changed")
	}
}
