package spec

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kimg/kimg/internal/arch"
)

func TestSpecFile(t *testing.T) {
	dir := t.TempDir()
	load := func(text string) (Spec, error) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, File), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return Load(dir)
	}
	s, err := load("kernel: ./linux\nsuite: bionic\nsize: 2G\nconfig: my.config\nset: [KASAN=y]\n")
	if err != nil {
		t.Fatal(err)
	}
	if s.Kernel != filepath.Join(dir, "linux") || s.Config != filepath.Join(dir, "my.config") ||
		s.Suite != "bionic" || s.Size != 2<<30 || s.Variant != Default().Variant {
		t.Errorf("spec %+v", s)
	}
	s, err = load("size: min\n")
	if err != nil || s.Size != Smallest || s.Check() != nil || s.Size.String() != "min" {
		t.Errorf("the smallest size: %v, %v, %v", s.Size, err, s.Check())
	}
	if _, err := load("suit: bionic\n"); err == nil || !strings.Contains(err.Error(), "suit") {
		t.Errorf("a field that does not exist: %v", err)
	}
	if _, err := load("mirror: http://m.example/debian\njobs: 3\nout: there\n"); err != nil {
		t.Errorf("fields of the embedded parts: %v", err)
	}
	if _, err := load(""); err != nil {
		t.Errorf("an empty file: %v", err)
	}
}

func TestSpecCheckNamesTheField(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		field string
		edit  func(*Spec)
	}{
		{"--suite", func(s *Spec) { s.Suite = "wheezy" }},
		{"--arch", func(s *Spec) { s.Arch = "x86_64" }},
		{"--arch", func(s *Spec) { s.Arch = "" }},
		{"--arch", func(s *Spec) { s.Suite, s.Arch = "bookworm", "riscv64" }},
		{"--variant", func(s *Spec) { s.Variant = "fancy" }},
		{"--size", func(s *Spec) { s.Size = 4096 }},
		{"--size", func(s *Spec) { s.Size = 1<<30 + 1 }},
		{"--size", func(s *Spec) { s.Size = 0 }},
		{"--jobs", func(s *Spec) { s.Jobs = -1 }},
		{"--include", func(s *Spec) { s.Include = []string{"no way"} }},
		{"--set", func(s *Spec) { s.Set = []string{"KASAN"} }},
		{"--fragment", func(s *Spec) { s.Fragments = []string{filepath.Join(dir, "absent")} }},
		{"--config", func(s *Spec) { s.Config = dir }},
		{"--kernel", func(s *Spec) { s.Kernel = "" }},
		{"--kernel-mirror", func(s *Spec) { s.KernelMirror = "ftp://mirror.example/" }},
		{"--kernel-keyring", func(s *Spec) { s.KernelKeyrings = []string{filepath.Join(dir, "absent")} }},
		{"--mirror", func(s *Spec) { s.Mirror = "mirror.example/debian" }},
	} {
		s := Default()
		c.edit(&s)
		var se *InputError
		if err := s.Check(); !errors.As(err, &se) || se.Field != c.field {
			t.Errorf("%+v: got %v, want an InputError of %s", s, err, c.field)
		}
	}
	if err := Default().Check(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
}

// A pipe in the place of a file is refused without waiting for a writer.
func TestPipesAreNotWaitedFor(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	l := &Lock{}
	for _, s := range []Spec{
		{Config: pipe, Given: []string{"config"}},
		{Fragments: []string{pipe}, Given: []string{"fragment"}},
		{Patches: []string{pipe}, Given: []string{"patch"}},
	} {
		if err := s.Conflict(l); err == nil || !strings.Contains(err.Error(), "a pipe") {
			t.Errorf("--%s: %v", s.Given[0], err)
		}
	}
	for _, edit := range []func(*Spec){
		func(s *Spec) { s.Config = pipe },
		func(s *Spec) { s.Fragments = []string{pipe} },
		func(s *Spec) { s.Patches = []string{pipe} },
	} {
		s := Default()
		edit(&s)
		if _, err := s.Request(); err == nil || !strings.Contains(err.Error(), "a pipe") {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// What is only shown short is compared whole.
func TestConflictComparesWholeDigests(t *testing.T) {
	file := filepath.Join(t.TempDir(), "my.config")
	if err := os.WriteFile(file, []byte("CONFIG_A=y\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := lockFile(file)
	if err != nil {
		t.Fatal(err)
	}
	near := f.SHA256[:63] + "0"
	if near == f.SHA256 {
		near = f.SHA256[:63] + "1"
	}
	s := Spec{Config: file, Fragments: []string{file}}
	for _, field := range []string{"config", "fragment"} {
		s.Given = []string{field}
		l := &Lock{Config: ConfigLock{Base: f.Path, SHA256: f.SHA256, Fragments: []FileLock{f}}}
		if err := s.Conflict(l); err != nil {
			t.Errorf("the same --%s: %v", field, err)
		}
		l.Config.SHA256, l.Config.Fragments = near, []FileLock{{Path: f.Path, SHA256: near}}
		if err := s.Conflict(l); err == nil {
			t.Errorf("another --%s whose digest begins alike is taken for the same", field)
		}
	}
}

// The default is one architecture on every machine; what is asked for is told by where it was.
func TestArchOfAFile(t *testing.T) {
	dir := t.TempDir()
	load := func(text string) Spec {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, File), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for text, want := range map[string]arch.Arch{
		"": arch.AMD64, "arch: amd64\n": arch.AMD64, "arch: arm64\n": arch.ARM64, "arch: riscv64\n": arch.RISCV64,
	} {
		s := load(text)
		q, err := s.Request()
		if err = errors.Join(err, s.Check()); err != nil || q.Arch != want {
			t.Errorf("%q: %v, %v", text, q.Arch, err)
		}
	}
	at := filepath.Join(dir, File)
	for text, want := range map[string]string{
		"suite: sid\narch: aarch64\n": at + `:2: arch: unknown architecture "aarch64": ` +
			`Debian's name of it is arm64`,
		"arch: riscv64\nsuite: bullseye\n": at + ":1: arch: bullseye is not made for riscv64: want amd64 or arm64, " +
			"or another suite",
	} {
		if err := load(text).Check(); err == nil || err.Error() != want {
			t.Errorf("%q:\n got %v\nwant %s", text, err, want)
		}
	}
}

// Another architecture has other packages, and what a lock pins of one is asked for by no other.
func TestArchIsPinned(t *testing.T) {
	s := Default()
	s.Arch = arch.ARM64.Name
	q, err := s.Request()
	if err != nil {
		t.Fatal(err)
	}
	of := func(arch string) RootfsLock {
		return RootfsLock{Suite: q.Suite, Variant: q.Variant, Required: []Package{{Arch: "all"}, {Arch: arch}}}
	}
	if !of("arm64").Asks(q) || of("amd64").Asks(q) || !of("all").Asks(q) {
		t.Error("packages of another architecture are taken for its own")
	}
	if err := q.Check(); err != nil {
		t.Error(err)
	}
}
