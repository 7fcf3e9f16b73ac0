package replay

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/recording"
	"github.com/kimg/kimg/internal/splat"
	"github.com/kimg/kimg/internal/toolbox"
	"github.com/kimg/kimg/internal/vm"
)

func TestFrames(t *testing.T) {
	var out, errs bytes.Buffer
	f := newFrames(&out, &errs)
	said := iotest.OneByteReader(strings.NewReader("o 6\nhello\ne 3\no 1o 2\n\x00\nx 42\n"))
	for buf := make([]byte, 8); ; {
		n, err := said.Read(buf)
		if err != nil {
			break
		}
		if _, err := f.Write(buf[:n]); err != nil {
			t.Fatal(err)
		}
	}
	if out.String() != "hello\n\x00\n" || errs.String() != "o 1" || f.status != 42 {
		t.Errorf("%q, %q, status %d", out.String(), errs.String(), f.status)
	}
	told := 0
	f.reads = func() { told++ }
	if _, err := f.Write([]byte("l 0\nl 0\n")); err != nil || told != 1 {
		t.Errorf("%v; told %d times", err, told)
	}
	for _, bad := range []string{"o 70000\n", "x 256\n", "y 1\n", "o\n", "\n", "o -1\n", "l 1\n",
		strings.Repeat("o", 99)} {
		if _, err := newFrames(nil, nil).Write([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// A guest that has asked for its end runs on for as long as QEMU takes to halt it.
func TestSameEnd(t *testing.T) {
	whole := recording.End{How: recording.Off, Icount: 242193776, Replayed: 242177342}
	for _, tt := range []struct {
		end  recording.End
		at   uint64
		want bool
	}{
		{whole, 242177342, true}, {whole, 242193776, true}, {whole, 242170000, true},
		{whole, 242193777, false}, {whole, 241000000, false}, {whole, 0, false},
		{recording.End{How: recording.Killed}, 7, true},
		{recording.End{How: recording.Off, Replayed: 9}, 9, true},
		{recording.End{How: recording.Off, Replayed: 9}, 8, false},
	} {
		if got := sameEnd(tt.end, tt.at); got != tt.want {
			t.Errorf("%+v at %d: %v", tt.end, tt.at, got)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte("o 6\nhello\ne 3\nerrx 1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var out bytes.Buffer
		if _, err := newFrames(&out, &out).Write(b); err == nil && out.Len() > len(b) {
			t.Errorf("%d bytes became %d", len(b), out.Len())
		}
	})
}

func TestArgv(t *testing.T) {
	r := &recording.Recording{
		Arch: arch.Default.Name, Memory: 1 << 30, Shift: 5, Append: "a b", Card: "virtio-net-pci"}
	tools := &toolbox.Tools{Dir: "/out", Sockets: "/run"}
	line := func(p place) string {
		args, err := argv(r, p)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(args, " ")
	}
	record := line(place{tools: tools, log: "/t/log", disk: "/t/o", output: "/t"})
	again := line(place{tools: tools, log: "/t/log", disk: "/t/o", output: "/t", from: begin})
	want := strings.Replace(record, "rr=record", "rr=replay", 1) + " -S"
	if diff := cmp.Diff(want, again); diff != "" {
		t.Errorf("a replay's machine differs:\n%s", diff)
	}
	for _, part := range []string{
		"vapic=off", "thread=single", "-icount shift=5,rr=record,rrfile=/t/log,rrsnapshot=init",
		"filter-replay", "-smp 1", "backing.file.filename=/out/rootfs.img", "-append a b"} {
		if !strings.Contains(record, part) {
			t.Errorf("%s is not in %s", part, record)
		}
	}
	for name, wants := range map[string][]string{
		"arm64": {"qemu-system-aarch64 -M virt", "-serial chardev:serial1 -chardev socket,id=qmp"},
		"riscv64": {"qemu-system-riscv64 -M virt",
			"-serial chardev:serial1 -device pci-serial,chardev=serial1 -chardev socket,id=qmp"},
	} {
		r.Arch = name
		got := line(place{tools: tools, output: "/t"})
		for _, want := range wants {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %s is not in %s", name, want, got)
			}
		}
		if strings.Contains(got, "vapic") || strings.Contains(got, "hpet") {
			t.Errorf("%s: it has devices of x86: %s", name, got)
		}
	}
	r.Card, r.Arch = "", arch.Default.Name
	if strings.Contains(line(place{tools: tools}), "netdev") {
		t.Error("there is a network card")
	}
}

func TestCheck(t *testing.T) {
	good := func() vm.Options { return vm.Options{Toolbox: toolbox.Container{}} }
	o := good()
	for _, o.Arch = range []arch.Arch{{}, arch.AMD64, arch.ARM64, arch.RISCV64} {
		if err := Check(&o, []string{"true"}, false); err != nil {
			t.Error(err)
		}
	}
	for what, change := range map[string]func(*vm.Options){
		"container": func(o *vm.Options) { o.Toolbox = toolbox.Host{} },
		"ppc64el":   func(o *vm.Options) { o.Arch = arch.PPC64EL },
		"processor": func(o *vm.Options) { o.CPUs = 2 },
		"directory": func(o *vm.Options) { o.Shares = []vm.Share{{}} },
		"TAP":       func(o *vm.Options) { o.Network.Mode = vm.TAPNet },
		"port":      func(o *vm.Options) { o.Network.Forwards = []qemu.Forward{{}} },
		"disk":      func(o *vm.Options) { o.Write = true },
		"qemu-arg":  func(o *vm.Options) { o.QEMU = []string{"-s"} },
	} {
		o := good()
		change(&o)
		var refused *RefusedError
		err := Check(&o, []string{"true"}, false)
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), what) || refused.Hint() == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	o = good()
	if err := Check(&o, nil, false); err == nil {
		t.Error("nothing is recorded")
	}
}

func TestPoints(t *testing.T) {
	for _, all := range []uint64{1, 5e6, 29e6, 30e6, 110e6, 207709332, 2.3e9, 1e12} {
		list := pointsOf(all)
		if near := nearPoints(all); list == nil || !slices.Equal(list[len(list)-len(near):], near) {
			t.Errorf("%d: %v, and near the end %v", all, list, near)
		}
		last := uint64(0)
		for _, n := range list {
			if n <= last || n >= all {
				t.Errorf("%d: %d after %d", all, n, last)
			}
			if n-last < nearStep/2 {
				t.Errorf("%d: %d is near %d", all, n, last)
			}
			last = n
		}
		if all > nearStep*2 && all-last > nearStep*3/2 {
			t.Errorf("%d: the last one is %d", all, last)
		}
		if len(list) > 2*farPoints+8 {
			t.Errorf("%d: %d points", all, len(list))
		}
	}
	if list := pointsOf(0); len(list) != blindMost || list[0] != blindStep {
		t.Errorf("%v", list)
	}
	// A complaint long before the end is gone back from, too.
	const all, told = 40e9, 7e9
	near, list := nearPoints(all, told), pointsOf(all, told)
	for _, want := range []uint64{told - 100e6, told - 20e6, all - 100e6, all - 20e6} {
		if !slices.Contains(near, want) || !slices.Contains(list, want) {
			t.Errorf("%d is not in %v, or not in %v", want, near, list)
		}
	}
	if !slices.IsSorted(list) || len(near) != 10 || !slices.Contains(list, 2.5e9) {
		t.Errorf("%v", list)
	}
	if same := nearPoints(all, all-5e6); !slices.IsSorted(same) || len(same) > 7 {
		t.Errorf("beside the end: %v", same)
	}
}

// The place of a complaint is found by how far the console was.
func TestToldAt(t *testing.T) {
	out := t.TempDir()
	for _, name := range []string{artifact.KernelImage(arch.Default), artifact.Vmlinux, artifact.Disk} {
		if err := os.WriteFile(filepath.Join(out, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := recording.Create(t.Context(), out, "told", recording.Recording{Arch: arch.Default.Name})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	console := strings.Repeat("a line\n", 7) + "[    1.200000] WARNING: CPU: 0 PID: 1 at fs/open.c:3 do_open+0x1/0x20\n"
	if err := os.WriteFile(r.Path(recording.Tape, recording.Console), []byte(console), 0o600); err != nil {
		t.Fatal(err)
	}
	if list := toldAt(r); list != nil {
		t.Errorf("nothing was marked: %v", list)
	}
	for i, lines := range []int{1, 7, 7, 7, 7, 9, 9, 20} { // the line is the eighth
		r.Mark(recording.Mark{Icount: uint64(i+1) * 1e7, Lines: lines})
	}
	if want := []uint64{6e7}; !slices.Equal(toldAt(r), want) {
		t.Errorf("%v, want %v", toldAt(r), want)
	}
	if len(r.Marks) != 6 {
		t.Errorf("marks: %v", r.Marks)
	}
	r.Marks = r.Marks[:3] // up to the last with seven lines
	r.Mark(recording.Mark{Icount: 2e9, Lines: 300})
	if want := []uint64{2e9, 5e7 + 2*nearStep}; !slices.Equal(toldAt(r), want) {
		t.Errorf("QEMU answered late: %v, want %v", toldAt(r), want)
	}
}

func TestGoToReport(t *testing.T) {
	functions := []string{"panic", "die", "__warn", "spin_bug", "spin_dump"}
	for _, tt := range []struct {
		report *splat.Report
		want   string
	}{
		{&splat.Report{Kind: splat.Oops, Panic: "Fatal exception"}, "thbreak panic; reverse-continue"},
		{&splat.Report{Kind: splat.Oops}, "thbreak die; reverse-continue"},
		{&splat.Report{Kind: splat.Spinlock}, "thbreak spin_bug; thbreak spin_dump; reverse-continue; delete"},
		{&splat.Report{Kind: splat.KASAN}, ""}, // none of its functions is there
		{nil, ""},
	} {
		if got := strings.Join(goToReport(tt.report, functions, "reverse-continue"), "; "); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.report, got, tt.want)
		}
	}
}

func TestParseAt(t *testing.T) {
	for text, want := range map[string]At{"end": {}, "": {}, "boot": {Boot: true}, "icount:17": {Icount: 17}} {
		if got, err := ParseAt(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, bad := range strings.Fields("icount: icount:-1 icount:0 icount:9999999999999999999 panic icount:1x") {
		if _, err := ParseAt(bad); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// A file that grows is read to its end, and a link out of its directory is not followed.
func TestFollow(t *testing.T) {
	dir, end := t.TempDir(), make(chan struct{})
	var got bytes.Buffer
	done := make(chan error, 1)
	go func() { done <- follow(dir, "f", &got, end) }()
	f, err := os.Create(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if _, err := f.WriteString("0123456789"); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	close(end)
	if err := <-done; err != nil || got.Len() != 10000 {
		t.Errorf("%d bytes, %v", got.Len(), err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "g")); err != nil {
		t.Fatal(err)
	}
	got.Reset()
	if err := follow(dir, "g", &got, end); err == nil || got.Len() > 0 {
		t.Errorf("%d bytes, %v", got.Len(), err)
	}
}
