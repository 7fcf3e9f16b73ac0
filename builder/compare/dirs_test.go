package compare

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/kimg/kimg/builder/outdir"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/units"
)

func put(t testing.TB, dir, name, content string) {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// has returns the difference whose place contains a word.
func has(t testing.TB, r *Report, where string) Difference {
	t.Helper()
	i := slices.IndexFunc(r.Differences,
		func(d Difference) bool { return strings.Contains(d.Artifact+" "+d.Where, where) })
	if i < 0 {
		t.Fatalf("no difference of %q in %+v", where, r.Differences)
	}
	return r.Differences[i]
}

func sum(s string) units.Digest { return units.DigestOf([]byte(s)) }

// testManifest is the manifest of the build in a directory of outDir.
func testManifest() *outdir.Manifest {
	return outdir.NewManifest(outdir.BuildFacts{
		Kernel: "6.12.1", Suite: "trixie", Config: "vm",
		Toolchain: outdir.Toolchain{Compiler: "gcc-14"},
		Artifacts: []outdir.Artifact{
			{Path: artifact.Config, SHA256: sum("config")},
			{Path: artifact.SystemMap, SHA256: sum("System.map")},
		},
		Inputs: []outdir.Input{
			{Kind: "kernel", Name: "linux-source", Version: "6.12.1-1", SHA256: sum("kernel"), For: "kernel"},
			{Kind: "package", Name: "dash", Version: "0.5-1", SHA256: sum("dash"), For: "rootfs"},
		},
		Steps: []outdir.StepFact{{ID: "kernel", Action: "33"}},
	}, outdir.RunFacts{Kimg: "1"})
}

func text(t testing.TB, m *outdir.Manifest) string {
	t.Helper()
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const (
	configText = "#\n# Linux/x86 6.12.1 Kernel Configuration\n#\n" +
		"CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_CC_VERSION_TEXT=\"gcc-14\"\n"
	mapText = "ffffffff81000000 T _text\nffffffff81000010 T start\n" +
		"ffffffff81000020 t twice\nffffffff81000030 t twice\n"
)

func outDir(t *testing.T, manifest string) string {
	dir := t.TempDir()
	put(t, dir, artifact.Manifest, manifest)
	put(t, dir, artifact.Config, configText)
	put(t, dir, artifact.SystemMap, mapText)
	return dir
}

// edited compares two builds, the manifest of the second of which was edited, and its
// directory then changed; either may be nil.
func edited(t *testing.T, edit func(*outdir.Manifest), change func(dir string)) *Report {
	t.Helper()
	m := testManifest()
	if edit != nil {
		edit(m)
	}
	a, b := outDir(t, text(t, testManifest())), outDir(t, text(t, m))
	if change != nil {
		change(b)
	}
	r, err := Dirs(context.Background(), a, b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestDirs(t *testing.T) {
	if r := edited(t, nil, nil); !r.Same() || len(r.Notes) > 0 {
		t.Errorf("two equal builds: %+v", r)
	}
	spaced := strings.Replace(text(t, testManifest()), `"kimg": `, `"kimg":   `, 1)
	for place, r := range map[string]*Report{
		"run.kimg":    edited(t, func(m *outdir.Manifest) { m.Run.Kimg = "2" }, nil),
		"size, byte ": edited(t, nil, func(dir string) { put(t, dir, artifact.Manifest, spaced) }),
	} {
		note := "manifest.json: the same build, but these fields differ: " + place
		if !r.Same() || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], note) {
			t.Errorf("what is of the run only: %+v, want a note %q", r, note)
		}
	}
	for _, tt := range []struct {
		where string
		want  Cause
		edit  func(*outdir.BuildFacts)
	}{
		{"inputs arch", Arch, func(b *outdir.BuildFacts) { b.Arch = "arm64" }},
		{"rootfs package dash", Package, func(b *outdir.BuildFacts) { b.Inputs[1].Version = "0.5-2" }},
		{"kernel kernel linux-source", Source, func(b *outdir.BuildFacts) { b.Inputs[0].Version = "6.12.2-1" }},
		{"toolchain.compiler", Compiler, func(b *outdir.BuildFacts) { b.Toolchain.Compiler = "gcc-13" }},
		{"config", Config, func(b *outdir.BuildFacts) { b.Config = "defconfig" }},
		{"manifest.json steps[kernel].action", Follows, func(b *outdir.BuildFacts) { b.Steps[0].Action = "44" }},
		{"manifest.json artifacts[System.map].sha256", Follows,
			func(b *outdir.BuildFacts) { b.Artifacts[1].SHA256 = sum("") }},
	} {
		r := edited(t, func(m *outdir.Manifest) { tt.edit(&m.Build) }, nil)
		if d := has(t, r, tt.where); d.Cause != tt.want || len(r.Differences) != 1 {
			t.Errorf("%s: %+v, want %s", tt.where, r.Differences, tt.want)
		}
	}
}

// What a build says will be other bits is a difference all the same, and explained.
// TestTwoArchitectures: paths, dates and files that are there in one alone follow from the architecture, and from
// nothing else.
func TestTwoArchitectures(t *testing.T) {
	r := edited(t, func(m *outdir.Manifest) {
		m.Build.Arch = "arm64"
		m.Build.Artifacts = append(m.Build.Artifacts, outdir.Artifact{Path: "Image", SHA256: sum("Image")})
	}, func(dir string) {
		put(t, dir, artifact.Config, strings.Replace(configText, "Linux/x86", "Linux/arm64", 1)+"CONFIG_ARM64=y\n"+
			"CONFIG_WHERE=\"/home/b/linux\"\n")
		put(t, dir, "Image", "an image")
	})
	if d := has(t, r, "inputs arch"); d.A != "amd64" || d.B != "arm64" {
		t.Errorf("the architectures are %+v", d)
	}
	for _, d := range r.Differences {
		if want := map[bool]Cause{true: Arch, false: Follows}[d.Where == "arch"]; d.Cause != want {
			t.Errorf("%+v, want %s", d, want)
		}
	}
	if n := r.Causes(); n[Arch] != 1 || n[Follows] < 3 {
		t.Errorf("%v", n)
	}
}

func TestExpected(t *testing.T) {
	varies := func(m *outdir.Manifest) { m.Build.Artifacts[1].Varies = "its tool reads a clock" }
	m := testManifest()
	varies(m)
	for _, other := range []string{mapText, "another"} {
		a, b := outDir(t, text(t, m)), outDir(t, text(t, m))
		put(t, b, artifact.SystemMap, other)
		r, err := Dirs(t.Context(), a, b)
		if err != nil {
			t.Fatal(err)
		}
		if r.Same() != (other == mapText) {
			t.Errorf("%q: %+v", other, r.Differences)
		}
		want := "System.map: no two builds have the same: its tool reads a clock"
		if slices.Contains(r.Notes, want) == r.Same() {
			t.Errorf("%q: notes %q", other, r.Notes)
		}
	}
}

func TestArtifacts(t *testing.T) {
	r := edited(t, nil, func(dir string) {
		put(t, dir, artifact.Config, strings.NewReplacer("A=y", "A=m", "# CONFIG_B is not set", "CONFIG_B=y",
			"gcc-14", "gcc-13").Replace(configText))
		put(t, dir, artifact.SystemMap, strings.NewReplacer("start", "begin", "30 t", "40 t").Replace(mapText))
	})
	for where, want := range map[string]Difference{
		"CONFIG_A":               {A: "y", B: "m", Cause: Config},
		"CONFIG_B":               {A: "n", B: "y", Cause: Config},
		"CONFIG_CC_VERSION_TEXT": {A: `"gcc-14"`, B: `"gcc-13"`, Cause: Compiler},
		"only in A":              {A: "start", Cause: Config},
		"1 symbol moved, the first is twice": {
			A: "0xffffffff81000030", B: "0xffffffff81000040", Cause: Follows},
	} {
		if d := has(t, r, where); d.A != want.A || d.B != want.B || d.Cause != want.Cause {
			t.Errorf("%s: %+v, want %+v", where, d, want)
		}
	}
	r = edited(t, nil, func(dir string) {
		if err := os.Remove(filepath.Join(dir, artifact.Config)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, artifact.SystemMap), 0o664); err != nil {
			t.Fatal(err)
		}
	})
	if d := has(t, r, "config the file"); d.A != "there" || d.B != "" {
		t.Errorf("%+v", d)
	}
	if d := has(t, r, "System.map mode"); d.A != "0644" || d.B != "0664" || d.Cause != Umask {
		t.Errorf("%+v", d)
	}
}

// TestKernelArtifacts: all but the disk image follows from the kernel's source.
func TestKernelArtifacts(t *testing.T) {
	names := []string{artifact.Modules, artifact.KernelImage(arch.Default), "modules/x.ko", artifact.Disk}
	m := testManifest()
	for _, name := range names {
		m.Build.Artifacts = append(m.Build.Artifacts, outdir.Artifact{Path: name, SHA256: sum("")})
	}
	a := outDir(t, text(t, m))
	m.Build.Inputs[0].Version, m.Build.Inputs[1].Version = "6.12.2-1", "0.5-2"
	b := outDir(t, text(t, m))
	for _, name := range names {
		put(t, a, name, "one")
		put(t, b, name, "two")
	}
	r, err := Dirs(t.Context(), a, b)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		want := Source
		if name == artifact.Disk {
			want = Package
		}
		if d := has(t, r, name+" line 1"); d.Cause != want {
			t.Errorf("%+v, want %s", d, want)
		}
	}
}

// TestForeignManifests: of a manifest that this kimg cannot read no artifact is left
// out; one that is broken is an error.
func TestForeignManifests(t *testing.T) {
	good := text(t, testManifest())
	for name, tt := range map[string]struct{ old, new, note string }{
		"another version":     {`"version": 1`, `"version": 2`, "its version is 2"},
		"another name":        {`"artifacts"`, `"files"`, "it names no artifacts"},
		"another form":        {string(sum("config")), "crc32:aa", "parse digest"},
		"out of its folder":   {`"path": "config"`, `"path": "../config"`, "not below the directory"},
		"artifacts of no use": {`"artifacts": [`, `"artifacts": {}, "more": [`, "cannot unmarshal"},
	} {
		if !strings.Contains(good, tt.old) {
			t.Fatalf("there is no %q in %s", tt.old, good)
		}
		other := strings.Replace(good, tt.old, tt.new, 1)
		a, b := outDir(t, other), outDir(t, other)
		put(t, b, artifact.Config, strings.Replace(configText, "A=y", "A=m", 1))
		r, err := Dirs(t.Context(), a, b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := has(t, r, "CONFIG_A"); d.B != "m" || len(r.Differences) != 1 {
			t.Errorf("%s: %+v", name, r.Differences)
		}
		if len(r.Notes) != 2 || !strings.Contains(r.Notes[0], tt.note) {
			t.Errorf("%s: notes %q, want %q of each", name, r.Notes, tt.note)
		}
	}
	for _, broken := range []string{"", "{", "[]", "{}", `{"build": 1}`, good[:len(good)/2]} {
		for i, dirs := range [][2]string{{broken, good}, {good, broken}} {
			_, err := Dirs(t.Context(), outDir(t, dirs[0]), outDir(t, dirs[1]))
			if err == nil || !strings.Contains(err.Error(), "read manifest") {
				t.Errorf("%.20q as manifest %d: %v", broken, i, err)
			}
		}
	}
}

func TestDirsWithoutManifests(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	put(t, a, "x/y", "one")
	put(t, b, "x/y", "two")
	put(t, b, "z", "")
	r, err := Dirs(context.Background(), a, b)
	if err != nil {
		t.Fatal(err)
	}
	has(t, r, "x/y line 1")
	has(t, r, "z the file")
	if _, err := Dirs(context.Background(), a, filepath.Join(a, "none")); err == nil {
		t.Error("a directory that is not there")
	}
}

func TestLocks(t *testing.T) {
	const head = "# Written by kimg: everything outside that this build stands on, pinned.\n"
	a := head +
		"version: 1\nkernel: {request: suite, version: 6.12.1}\nrootfs:\n  base:\n" +
		"    - {name: dash, version: 0.5-1, sha256: aa}\n    - {name: ed, version: '1', sha256: bb}\n"
	b := head +
		"version: 1\nkernel: {request: '6.13', version: 6.13.0}\nrootfs:\n  base:\n" +
		"    - {name: dash, version: 0.5-2, sha256: cc}\n    - {name: ed, version: '1', sha256: dd}\n" +
		"    - {name: vi, version: '2', sha256: ee}\n"
	r := compareText(t, "kimg.lock", a, b)
	for where, want := range map[string]Difference{
		"kernel.request":         {A: "suite", B: "6.13", Cause: Config},
		"kernel.version":         {A: "6.12.1", B: "6.13.0", Cause: Source},
		"rootfs.base[dash]":      {A: "0.5-1", B: "0.5-2", Cause: Package},
		"rootfs.base[ed].sha256": {A: "bb", B: "dd", Cause: Package},
		"rootfs.base[vi]":        {A: "", B: "2", Cause: Package},
	} {
		if d := has(t, r, where); d.A != want.A || d.B != want.B || d.Cause != want.Cause {
			t.Errorf("%s: %+v, want %+v", where, d, want)
		}
	}
	if len(r.Differences) != 5 {
		t.Errorf("%+v", r.Differences)
	}
}

func compareText(t testing.TB, name, a, b string) *Report {
	t.Helper()
	return compareBytes(t, name, []byte(a), []byte(b))
}

func compareBytes(t testing.TB, name string, a, b []byte) *Report {
	t.Helper()
	da, db := t.TempDir(), t.TempDir()
	put(t, da, name, string(a))
	put(t, db, name, string(b))
	r, err := Files(context.Background(), name, filepath.Join(da, name), filepath.Join(db, name))
	if err != nil {
		t.Fatal(err)
	}
	if r.Same() != bytes.Equal(a, b) {
		t.Errorf("same: %v", r.Same())
	}
	return r
}

// TestTexts plants a leak of each kind in one text.
func TestTexts(t *testing.T) {
	a := "title\nbuilt 2026-11-23T16:14:02Z\nin /home/ann/linux/x\nby ann@here\n" +
		"id 34308998-e7d1-50c1-ae61-6cfed28ccd12\n"
	b := "title\nbuilt 2026-11-23T17:14:02Z\nin /home/bob/linux/x\nby bob@there\n" +
		"id b3430899-e7d1-40c1-9e61-6cfed28ccd99\n"
	r := compareText(t, "notes", a, b)
	for where, want := range map[string]Cause{"line 2": Time, "line 3": Path, "line 4": User, "line 5": Random} {
		if d := has(t, r, where); d.Cause != want {
			t.Errorf("%s: %+v, want %s", where, d, want)
		}
	}
	if r.Causes()[Host] != 1 {
		t.Errorf("the machine's name: %+v", r.Differences)
	}
	if d := has(t, compareText(t, "hostname", "ann\n", "bob\n"), "line 1"); d.Cause != Host {
		t.Errorf("%+v", d)
	}
	if d := has(t, compareText(t, "list", "b\na\n", "a\nb\n"), "line 1"); d.Cause != Order {
		t.Errorf("%+v", d)
	}
	if d := has(t, compareText(t, "text", "a\n", "a\nb\n"), "line 2"); d.A != "" || d.B != `"b"` {
		t.Errorf("%+v", d)
	}
}

func TestBinaries(t *testing.T) {
	a := append(bytes.Repeat([]byte{0}, 5000), []byte("built by ann@here in a hurry\x00")...)
	a = append(a, make([]byte, 5000)...)
	b := bytes.Replace(a, []byte("ann"), []byte("bob"), 1)
	if d := has(t, compareBytes(t, "blob", a, b), "byte 0x1391"); d.Cause != User ||
		d.A != `"built by ann@here in a hurry"` {
		t.Errorf("%+v", d)
	}
	b = bytes.Clone(a)
	copy(a[100:], "\x00\x0e\x01\x6b")
	copy(b[100:], "\x99\x0f\x01\x6b")
	if d := has(t, compareBytes(t, "blob", a, b), "byte 0x64"); d.Cause != Time {
		t.Errorf("%+v", d)
	}
	if d := has(t, compareBytes(t, "blob", a, a[:6000]), "size"); d.A != "10029" || d.B != "6000" {
		t.Errorf("%+v", d)
	}
}

// FuzzTexts compares what kimg, the kernel's build and people write as text.
func FuzzTexts(f *testing.F) {
	names := []string{"manifest.json", "kimg.lock", "config", "System.map", "notes", "x.gz"}
	manifest := text(f, testManifest())
	f.Add(uint8(0), []byte(manifest), []byte(strings.Replace(manifest, "0.5-1", "0.5-2", 1)))
	f.Add(uint8(1), []byte("version: 1\nrootfs: {base: [{name: a, version: 1}]}\n"),
		[]byte("version: 1\nrootfs: {base: [{name: a}, {name: a}]}\n"))
	f.Add(uint8(1), []byte("a: &a [1]\nb: [*a, *a]\n"), []byte("a: {}\n"))
	f.Add(uint8(2), []byte("# CONFIG_B is not set\nCONFIG_A=y\n"), []byte("CONFIG_A=m\n# CONFIG_B is not set\n"))
	f.Add(uint8(3), []byte("ffffffff81000000 T _text\n"),
		[]byte("ffffffff81000000 T _text\nffffffff81000000 t _text\n"))
	f.Add(uint8(4), []byte("built 2026-11-23 by ann@here\n"), []byte("built 2026-11-24 by bob@there"))
	f.Add(uint8(5), zip([]byte("one")), zip([]byte("two")))
	f.Fuzz(func(t *testing.T, which uint8, a, b []byte) {
		name := names[int(which)%len(names)]
		r := &Report{A: "a", B: "b"}
		if err := r.blobs(t.Context(), thing{artifact: name, base: name},
			memory(a), memory(b)); err != nil {
			t.Fatal(err)
		}
		if r.Same() != bytes.Equal(a, b) {
			t.Errorf("same: %v", r.Same())
		}
	})
}

// TestNoFile refuses what is no file, and does not wait for it.
func TestNoFile(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	put(t, dir, "file", "x")
	if _, err := Files(t.Context(), "pipe", pipe, filepath.Join(dir, "file")); err == nil ||
		!strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a pipe: %v", err)
	}
}
