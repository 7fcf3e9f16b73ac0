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
	i := slices.IndexFunc(r.Differences, func(d Difference) bool { return strings.Contains(d.Artifact+" "+d.Where, where) })
	if i < 0 {
		t.Fatalf("nothing is told of %q in %+v", where, r.Differences)
	}
	return r.Differences[i]
}

const manifestText = `{"version": 1, "build": {"kernel": "6.12.1", "suite": "trixie", "config": "vm",
"toolchain": {"compiler": "gcc-14"},
"artifacts": [{"path": "config", "sha256": "aa"}, {"path": "System.map", "sha256": "bb"}],
"inputs": [{"kind": "kernel", "name": "linux-source", "version": "6.12.1-1", "sha256": "11", "for": "kernel"},
 {"kind": "package", "name": "dash", "version": "0.5-1", "sha256": "22", "for": "rootfs"}],
"steps": [{"id": "kernel", "action": "33"}]}, "run": {"kimg": "1"}}`

func outDir(t *testing.T, manifest string) string {
	dir := t.TempDir()
	put(t, dir, "manifest.json", manifest)
	put(t, dir, "config", "#\n# Linux/x86 6.12.1 Kernel Configuration\n#\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_CC_VERSION_TEXT=\"gcc-14\"\n")
	put(t, dir, "System.map", "ffffffff81000000 T _text\nffffffff81000010 T start\nffffffff81000020 t twice\nffffffff81000030 t twice\n")
	return dir
}

func TestDirs(t *testing.T) {
	run := func(t *testing.T, manifest string, change func(dir string)) *Report {
		t.Helper()
		a, b := outDir(t, manifestText), outDir(t, manifest)
		change(b)
		r, err := Dirs(context.Background(), a, b)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	replace := func(old, new string) string {
		if !strings.Contains(manifestText, old) {
			t.Fatalf("the manifest has no %q", old)
		}
		return strings.Replace(manifestText, old, new, 1)
	}
	nothing := func(string) {}

	if r := run(t, manifestText, nothing); !r.Same() || len(r.Notes) > 0 {
		t.Errorf("two equal builds: %+v", r.Differences)
	}
	for new, place := range map[string]string{`"kimg": "2"`: "run.kimg", `"kimg":   "1"`: "size, byte "} {
		r := run(t, replace(`"kimg": "1"`, new), nothing)
		if !r.Same() || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "manifest.json: what it says beside the build differs: "+place) {
			t.Errorf("what is of the run only: %+v", r)
		}
	}
	for _, tt := range []struct {
		old, new, where string
		want            Cause
	}{
		{`"0.5-1"`, `"0.5-2"`, "rootfs package dash", Package},
		{`"6.12.1-1"`, `"6.12.2-1"`, "kernel kernel linux-source", Source},
		{`"gcc-14"`, `"gcc-13"`, "toolchain.compiler", Compiler},
		{`"vm"`, `"defconfig"`, "config", Config},
		{`"action": "33"`, `"action": "44"`, "manifest.json build.steps", Follows},
		{`"sha256": "bb"`, `"sha256": "cc"`, "manifest.json build.artifacts[System.map]", Follows},
	} {
		r := run(t, replace(tt.old, tt.new), nothing)
		where := strings.Replace(tt.where, "build.", "", 1)
		if d := has(t, r, where); d.Cause != tt.want || len(r.Differences) != 1 {
			t.Errorf("%s: %+v, want %s", tt.new, r.Differences, tt.want)
		}
	}

	r := run(t, manifestText, func(dir string) {
		put(t, dir, "config", "#\n# Linux/x86 6.12.1 Kernel Configuration\n#\nCONFIG_A=m\nCONFIG_B=y\nCONFIG_CC_VERSION_TEXT=\"gcc-13\"\n")
		put(t, dir, "System.map", "ffffffff81000000 T _text\nffffffff81000010 T begin\nffffffff81000020 t twice\nffffffff81000040 t twice\n")
	})
	if d := has(t, r, "CONFIG_A"); d.A != "y" || d.B != "m" || d.Cause != Config {
		t.Errorf("%+v", d)
	}
	if d := has(t, r, "CONFIG_B"); d.A != "n" || d.B != "y" {
		t.Errorf("%+v", d)
	}
	if d := has(t, r, "CONFIG_CC_VERSION_TEXT"); d.Cause != Compiler {
		t.Errorf("%+v", d)
	}
	if d := has(t, r, "only in A"); d.A != "start" || d.Cause != Config {
		t.Errorf("%+v", d)
	}
	if d := has(t, r, "1 symbols moved, the first is twice"); d.A != "0xffffffff81000030" {
		t.Errorf("%+v", d)
	}

	r = run(t, manifestText, func(dir string) {
		if err := os.Remove(filepath.Join(dir, "config")); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, "System.map"), 0o664); err != nil {
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
	a := head + "version: 1\nkernel: {request: suite, version: 6.12.1}\nrootfs:\n  base:\n    - {name: dash, version: 0.5-1, sha256: aa}\n    - {name: ed, version: '1', sha256: bb}\n"
	b := head + "version: 1\nkernel: {request: '6.13', version: 6.13.0}\nrootfs:\n  base:\n    - {name: dash, version: 0.5-2, sha256: cc}\n    - {name: ed, version: '1', sha256: dd}\n    - {name: vi, version: '2', sha256: ee}\n"
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
	a := "title\nbuilt 2026-11-23T16:14:02Z\nin /home/ann/linux/x\nby ann@here\nid 34308998-e7d1-50c1-ae61-6cfed28ccd12\n"
	b := "title\nbuilt 2026-11-23T17:14:02Z\nin /home/bob/linux/x\nby bob@there\nid b3430899-e7d1-40c1-9e61-6cfed28ccd99\n"
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
	if d := has(t, compareBytes(t, "blob", a, b), "byte 0x1391"); d.Cause != User || d.A != `"built by ann@here in a hurry"` {
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
	f.Add(uint8(0), []byte(manifestText), []byte(strings.Replace(manifestText, "0.5-1", "0.5-2", 1)))
	f.Add(uint8(1), []byte("version: 1\nrootfs: {base: [{name: a, version: 1}]}\n"), []byte("version: 1\nrootfs: {base: [{name: a}, {name: a}]}\n"))
	f.Add(uint8(1), []byte("a: &a [1]\nb: [*a, *a]\n"), []byte("a: {}\n"))
	f.Add(uint8(2), []byte("# CONFIG_B is not set\nCONFIG_A=y\n"), []byte("CONFIG_A=m\n# CONFIG_B is not set\n"))
	f.Add(uint8(3), []byte("ffffffff81000000 T _text\n"), []byte("ffffffff81000000 T _text\nffffffff81000000 t _text\n"))
	f.Add(uint8(4), []byte("built 2026-11-23 by ann@here\n"), []byte("built 2026-11-24 by bob@there"))
	f.Add(uint8(5), zip([]byte("one")), zip([]byte("two")))
	f.Fuzz(func(t *testing.T, which uint8, a, b []byte) {
		name := names[int(which)%len(names)]
		r := &Report{A: "a", B: "b"}
		if err := r.blobs(t.Context(), thing{artifact: name, base: name},
			blob{r: bytes.NewReader(a), size: int64(len(a))}, blob{r: bytes.NewReader(b), size: int64(len(b))}); err != nil {
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
	if _, err := Files(t.Context(), "pipe", pipe, filepath.Join(dir, "file")); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a pipe: %v", err)
	}
}
