package recording

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
)

// build is an out directory with the artifacts that a recording takes.
func build(t *testing.T) string {
	t.Helper()
	out := t.TempDir()
	for _, name := range append(links(arch.Default), artifact.GDBLoader, artifact.GDBScripts+"/linux/a.py",
		artifact.ModulesDir+"/kernel/a.ko", artifact.Lock) {
		file := filepath.Join(out, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("this is "+name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// qcow2 is the header of one.
func qcow2(change func([]byte)) []byte {
	b := make([]byte, 104)
	copy(b, "QFI\xfb")
	binary.BigEndian.PutUint32(b[4:], 3)
	if change != nil {
		change(b)
	}
	return b
}

// begin makes a recording that has begun.
func begin(t *testing.T, out, name string) *Recording {
	t.Helper()
	r, err := Create(t.Context(), out, name, Recording{Arch: arch.Default.Name, Memory: 1 << 30, Shift: 5})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	for file, text := range map[string]string{
		Log: "\x00\x00\x00\x00and what came from outside", Overlay: string(qcow2(nil)),
		Script: "exit\n", Console: "hello\n",
	} {
		if err := os.WriteFile(r.Path(Tape, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Save(); err != nil {
		t.Fatal(err)
	}
	return r
}

// sealed makes a whole one.
func sealed(t *testing.T, out, name string) {
	t.Helper()
	r := begin(t, out, name)
	r.End.How = Off
	if err := errors.Join(r.CloseLog(), r.Seal(t.Context())); err != nil {
		t.Fatal(err)
	}
	r.Close()
}

func reason(t *testing.T, err error) string {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%v", err)
	}
	return e.Reason
}

func TestRecording(t *testing.T) {
	out := build(t)
	sealed(t, out, "a")
	r, err := Open(t.Context(), out, "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(t.Context()); err != nil {
		t.Errorf("%v", err)
	}
	if info, err := os.Stat(r.Dir()); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	for _, name := range []string{artifact.GDBScripts + "/linux/a.py", artifact.ModulesDir + "/kernel/a.ko"} {
		if _, err := os.Stat(r.Path(name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := Create(t.Context(), out, "a", *r); reason(t, err) != "there is one" {
		t.Error(err)
	}
	done, err := r.Use()
	if err != nil {
		t.Fatal(err)
	}
	if err := Remove(out, "a"); reason(t, err) != "it is being made or looked at" {
		t.Error(err)
	}
	done()
	list, err := List(out)
	if err != nil || len(list) != 1 || list[0].Name != "a" || list[0].Err != nil || list[0].Busy {
		t.Errorf("%+v, %v", list, err)
	}
	if err := Remove(out, "a"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(out, Home)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if _, err := Open(t.Context(), out, "a"); reason(t, err) != "there is none" {
		t.Error(err)
	}
}

// What gdb reads of a recording is compared, too: its scripts are programs.
func TestBesideIsCompared(t *testing.T) {
	out := build(t)
	for _, name := range []string{artifact.GDBLoader, artifact.GDBScripts + "/linux/a.py", artifact.Lock,
		artifact.ModulesDir + "/kernel/a.ko"} {
		sealed(t, out, "a")
		r, err := Open(t.Context(), out, "a")
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Verify(t.Context()); err != nil || r.Beside == "" {
			t.Errorf("%v, %q", err, r.Beside)
		}
		if err := os.Remove(r.Path(name)); err != nil { // it may be a link
			t.Fatal(err)
		}
		if err := os.WriteFile(r.Path(name), []byte("another"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.Verify(t.Context()); !strings.Contains(reason(t, err), "are not those that were recorded") {
			t.Errorf("%s: %v", name, err)
		}
		r.Beside = "" // of an earlier kimg
		if err := r.Verify(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := Remove(out, "a"); err != nil {
			t.Fatal(err)
		}
	}
}

// What a kill left of one that had not begun is in nobody's way, and goes.
func TestLeftOver(t *testing.T) {
	out := build(t)
	sealed(t, out, "a")
	file := exported(t, out, false)
	left := func(name string, age time.Duration) string {
		dir := filepath.Join(out, Home, name)
		if err := os.MkdirAll(filepath.Join(dir, Tape), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, artifact.Disk), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(dir, then, then); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	left("b", 0)
	r, err := Import(t.Context(), out, "b", bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	left("c", 0)
	sealed(t, out, "c")
	old, young := left("d", time.Hour), left("e", 0)
	list, err := List(out)
	if err != nil || len(list) != 4 {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was left stays: %v", err)
	}
	if _, err := os.Stat(young); err != nil {
		t.Errorf("it may just be made: %v", err)
	}
}

// A build replaces its files; that takes nothing from a recording. Writing to one does.
func TestLaterBuild(t *testing.T) {
	out := build(t)
	sealed(t, out, "a")
	sealed(t, out, "b")
	disk := filepath.Join(out, artifact.Disk)
	err := errors.Join(os.WriteFile(disk+".new", []byte("another"), 0o644), os.Rename(disk+".new", disk))
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(t.Context(), out, "a")
	if err == nil {
		err = r.Verify(t.Context())
	}
	if err != nil {
		t.Error(err)
	}
	for _, file := range append(inputs(arch.Default)[1:], Tape+"/"+Console) {
		was, err := os.ReadFile(r.Path(file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(r.Path(file), append(was, '!'), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.Verify(t.Context()); (err == nil) != (file == Tape+"/"+Console) {
			t.Errorf("%s has changed: %v", file, err)
		}
		if err := os.WriteFile(r.Path(file), was, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// One that is being made is left alone; one whose kimg was killed is mended.
func TestKilled(t *testing.T) {
	out := build(t)
	r := begin(t, out, "a")
	if _, err := Open(t.Context(), out, "a"); reason(t, err) != "it is being made" {
		t.Error(err)
	}
	if list, _ := List(out); len(list) != 1 || !list[0].Busy {
		t.Errorf("%+v", list)
	}
	if err := Remove(out, "a"); reason(t, err) != "it is being made or looked at" {
		t.Error(err)
	}
	r.Close() // as a kill does
	mended, err := Open(t.Context(), out, "a")
	if err != nil {
		t.Fatal(err)
	}
	if mended.End.How != Killed || mended.Verify(t.Context()) != nil {
		t.Errorf("%+v, %v", mended.End, mended.Verify(t.Context()))
	}
	log, err := os.ReadFile(mended.Path(Tape, Log))
	if err != nil || !bytes.HasPrefix(log, logHeader[:]) {
		t.Errorf("%q, %v", log, err)
	}
}

func TestKilledTooEarly(t *testing.T) {
	out := build(t)
	r := begin(t, out, "a")
	if err := os.Truncate(r.Path(Tape, Log), 3); err != nil {
		t.Fatal(err)
	}
	r.Close()
	if _, err := Open(t.Context(), out, "a"); reason(t, err) != "its log is empty" {
		t.Error(err)
	}
}

// The artifacts must not change while the guest runs on them.
func TestWrittenMeanwhile(t *testing.T) {
	out := build(t)
	r := begin(t, out, "a")
	if err := os.Chtimes(r.Path(artifact.Disk), r.Made, r.Made.AddDate(1, 0, 0)); err != nil {
		t.Fatal(err)
	}
	if err := r.DigestLinks(t.Context()); err == nil || !strings.Contains(err.Error(), "written to") {
		t.Error(err)
	}
}

func TestHostileOverlay(t *testing.T) {
	for want, change := range map[string]func([]byte){
		"overlay.qcow2 is no qcow2 of version 3":              func(b []byte) { b[0] = 'q' },
		"overlay.qcow2 names a file below it":                 func(b []byte) { b[15] = 1 },
		"overlay.qcow2 has features that no recording has":    func(b []byte) { b[79] = 4 },
		"overlay.qcow2 is no qcow2 of version 3, of another?": nil,
	} {
		file := filepath.Join(t.TempDir(), Overlay)
		if err := os.WriteFile(file, qcow2(change), 0o600); err != nil {
			t.Fatal(err)
		}
		err := CheckOverlay("a", file)
		if change == nil {
			if err != nil {
				t.Error(err)
			}
		} else if reason(t, err) != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestHostileRecord(t *testing.T) {
	good := `{"format":1,"arch":"` + arch.Default.Name + `","memory":"1G","shift":5,"parts":{}}`
	if _, err := parse([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for old, bad := range map[string]string{
		`"format":1`: `"format":2`, `"shift":5`: `"shift":99`, `"memory":"1G"`: `"memory":"1"`,
		`"parts":{}`: `"parts":{"../../etc/passwd":{}}`, `"arch":"`: `"card":"virtio-net,x=y","arch":"`,
		`,"parts"`: `,"append":"` + strings.Repeat("a", 5000) + `","parts"`, `{"format"`: `["format"`,
	} {
		if _, err := parse([]byte(strings.Replace(good, old, bad, 1))); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"format":1,"arch":"amd64","memory":"1G","shift":5,"parts":{"rootfs.img":{"size":1}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parse(b); err == nil && (r.Memory < 1<<20 || r.Format != format) {
			t.Errorf("%+v", r)
		}
	})
}

// A hole and zeros that are written are the same; anything else is not, wherever it is.
func TestDigest(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, size int64, data map[int64]string) string {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		for at, text := range data {
			if _, err := f.WriteAt([]byte(text), at); err != nil {
				t.Fatal(err)
			}
		}
		return f.Name()
	}
	const block = 64 << 10
	const size = 10*block + 7
	digests := map[string]string{}
	for name, data := range map[string]map[int64]string{
		"hole": {3 * block: "x"}, "zeros": {3 * block: "x", 5 * block: strings.Repeat("\x00", block)},
		"moved": {4 * block: "x"}, "other": {3 * block: "y"}, "tail": {3 * block: "x", size - 1: "z"},
	} {
		d, n, err := digestFile(t.Context(), write(name, size, data))
		if err != nil || n != size {
			t.Fatal(n, err)
		}
		digests[name] = string(d)
	}
	longer, _, err := digestFile(t.Context(), write("longer", size+1, map[int64]string{3 * block: "x"}))
	if err != nil {
		t.Fatal(err)
	}
	digests["longer"] = string(longer)
	for name, d := range digests {
		if same := d == digests["hole"]; same != (name == "hole" || name == "zeros") {
			t.Errorf("%s: the digest of hole: %v", name, same)
		}
	}
}

// A check's earlier recording makes way for its next one, and nothing else does.
func TestMakeWay(t *testing.T) {
	out := build(t)
	sealed(t, out, "a")
	if err := MakeWay(out, "a"); reason(t, err) != "there is one, and no check made it" {
		t.Error(err)
	}
	r, err := Open(t.Context(), out, "a")
	if err != nil {
		t.Fatal(err)
	}
	r.Check = "boots"
	if err := r.Save(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // there is one, and there is none
		if err := MakeWay(out, "a"); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(r.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
