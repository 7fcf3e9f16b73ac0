package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/builder/spec"
)

const yaml = `
kernel: 6.12
suite: bookworm
fragments: [debug.config]
set: [KASAN=y]
include: [strace]
size: 2G
out: results
`

// specOf returns the Spec that "kimg plan ARGS" asks for.
func specOf(t *testing.T, args ...string) spec.Spec {
	t.Helper()
	var got spec.Spec
	a, read := testApp(t, table{plan: func(_ context.Context, _ builder.Env, sp spec.Spec, _ io.Writer) error {
		got = sp
		return nil
	}})
	root := a.root()
	root.SetArgs(append([]string{"plan"}, args...))
	if err := root.ExecuteContext(t.Context()); err != nil {
		_, stderr := read()
		t.Fatalf("kimg plan %q: %v\n%s", args, err, stderr)
	}
	return got
}

func TestSpecIsFlagsOverFileOverDefaults(t *testing.T) {
	t.Chdir(t.TempDir())
	if diff := cmp.Diff(spec.Default(), specOf(t), cmpopts.IgnoreUnexported(spec.Spec{}, spec.OwnUnits{})); diff != "" {
		t.Errorf("no flags, no file: (-default +got)\n%s", diff)
	}

	for name, text := range map[string]string{spec.File: yaml, "debug.config": "", "more.config": ""} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := spec.Default()
	want.Kernel, want.Suite, want.Size, want.Out = "6.12", "bookworm", 2<<30, "results"
	want.Fragments, want.Set, want.Include = []string{"debug.config"}, []string{"KASAN=y"}, []string{"strace"}
	if diff := cmp.Diff(want, specOf(t), cmpopts.IgnoreUnexported(spec.Spec{}, spec.OwnUnits{})); diff != "" {
		t.Errorf("no flags: (-want +got)\n%s", diff)
	}

	// A flag that repeats a default is given all the same; lists come after the file's.
	want.Kernel, want.Size = "suite", 1<<30
	want.Fragments = append(want.Fragments, "more.config")
	want.Set = append(want.Set, "KASAN=n", "X=a,b")
	want.Include = append(want.Include, "vim", "nano", "gdb")
	got := specOf(t, "--kernel", "suite", "--size", "1G", "--fragment", "more.config",
		"--set", "KASAN=n", "--set", "X=a,b", "--include", "vim,nano", "--include", "gdb")
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(spec.Spec{}, spec.OwnUnits{})); diff != "" {
		t.Errorf("flags over the file: (-want +got)\n%s", diff)
	}
}

func TestEverySpecFlagReachesTheSpec(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("f", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	got := specOf(t, "--kernel", "k", "--suite", "sid", "--arch", "riscv64", "--config", "f", "--fragment", "f",
		"--set", "A=y",
		"--size", "512M", "--include", "vim", "--variant", "standard", "--out", "o", "--mirror", "http://m",
		"--jobs", "3", "--toolchain", "bookworm/gcc-12", "--patch", "f", "--no-fixes", "--privileged", "--frozen")
	want := spec.Spec{Kernel: "k", Suite: "sid", Arch: "riscv64", Config: "f", Fragments: []string{"f"},
		Set:  []string{"A=y"},
		Size: 512 << 20, FS: "ext4", Include: []string{"vim"}, Variant: "standard",
		Toolchain: "bookworm/gcc-12", Patches: []string{"f"}, NoFixes: true,
		Sources: spec.Sources{Mirror: "http://m", Frozen: true},
		Options: spec.Options{Out: "o", Jobs: 3, Privileged: true}}
	if of := specOf(t, "--fs", "squashfs", "--size", "min"); of.FS != "squashfs" || of.Size != spec.Smallest {
		t.Errorf("a file system: %+v", of)
	}
	if of := specOf(t, "--initramfs"); !of.Initramfs {
		t.Errorf("an initramfs: %+v", of)
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(spec.Spec{}, spec.OwnUnits{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestRunTakesItsCommandAndDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile(spec.File, []byte("out: results\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var got runRequest
	a, _ := testApp(t, table{run: func(_ context.Context, _ builder.Env, r runRequest) error {
		got = r
		return guestStatus(7)
	}})
	root := a.root()
	root.SetArgs([]string{"run", "--memory", "512M", "--write", "--", "sh", "-c", "exit 7"})
	err := root.ExecuteContext(t.Context())
	if code := a.report(t.Context(), err, true); code != 7 {
		t.Errorf("exit status is %d, want the command's 7", code)
	}
	if diff := cmp.Diff([]string{"sh", "-c", "exit 7"}, got.command); diff != "" {
		t.Error(diff)
	}
	if filepath.Base(got.out) != "results" || got.memory != 512<<20 || !got.write || got.takeTerminal == nil {
		t.Errorf("request is %+v", got)
	}
}
