package builder

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/kimg/kimg/builder/outdir"
	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/builder/spec/spectest"
	"github.com/kimg/kimg/internal/units"
)

// What is wanted and pinned, as these tests call it.
type (
	Spec          = spec.Spec
	Lock          = spec.Lock
	KernelLock    = spec.KernelLock
	ConfigLock    = spec.ConfigLock
	ToolchainLock = spec.ToolchainLock
	FileLock      = spec.FileLock
	PatchLock     = spec.PatchLock
	InputError    = spec.InputError
	FrozenError   = spec.FrozenError
	Manifest      = outdir.Manifest
)

const LockFile = spec.LockFile

// fixture is a lock as Resolve would have made it.
func fixture(t *testing.T) *Lock { return spectest.Lock(t) }

// session is a build whose parts a test calls one by one.
type session struct {
	*run
	t    *testing.T
	spec Spec
}

func testSession(t *testing.T) *session {
	t.Helper()
	return openSession(t, Env{Cache: t.TempDir(), Host: t.TempDir()}, spec.Default())
}

func openSession(t *testing.T, env Env, sp Spec) *session {
	t.Helper()
	tools, err := openTools(env, sp.Sources, sp.Suite)
	if err != nil {
		t.Fatal(err)
	}
	return &session{&run{tools: tools, kernel: sp.Kernel}, t, sp}
}

func (s *session) plan(l *Lock) *Plan {
	s.t.Helper()
	p, err := NewPlan(l)
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// resolver is for what the session's Spec says by now.
func (s *session) resolver(old *Lock) *resolver {
	s.t.Helper()
	q, err := s.spec.Request()
	if err != nil {
		s.t.Fatal(err)
	}
	s.from, s.suite, s.kernel = s.spec.Sources, s.spec.Suite, s.spec.Kernel
	return &resolver{Sources: s.Sources, q: q, old: old}
}

func (s *session) resolve(ctx context.Context, old *Lock) (*Lock, error) {
	r := s.resolver(old)
	return Resolve(ctx, r.Sources, r.q, old)
}

func (s *session) resolveKernel(ctx context.Context, old KernelLock) (KernelLock, error) {
	r := s.resolver(&Lock{Kernel: old})
	src, err := r.localSource(ctx)
	if err != nil {
		return KernelLock{}, err
	}
	return r.kernel(ctx, src)
}

func (s *session) toolchainFor(v units.KernelVersion, old ToolchainLock) (ToolchainLock, error) {
	return s.resolver(&Lock{Toolchain: old}).toolchain(KernelLock{Version: v})
}

func (s *session) updated(old *Lock, req UpdateRequest) (*Lock, error) {
	return s.update(s.t.Context(), old, s.spec, req)
}

// asks has a session ask for what a lock was made for.
func (s *session) asks(l *Lock) {
	q := l.Request()
	s.spec.Kernel, s.spec.Suite, s.spec.Variant, s.spec.Include = q.Kernel, q.Suite, q.Variant, q.Include
	s.spec.Config, s.spec.Set, s.spec.Targets, s.spec.Size = q.Config.Base, q.Config.Set, q.Targets, q.Size
	s.spec.Toolchain, s.spec.NoFixes = q.Toolchain, q.NoFixes
}

// writeLock writes a lock as a file of its own.
func writeLock(t *testing.T, l *Lock) string {
	t.Helper()
	b, err := l.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), LockFile)
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// aPatch is a patch of one line of fs/NAME.
func aPatch(name, to string) string {
	return "--- a/fs/" + name + "\n+++ b/fs/" + name + "\n@@ -1 +1 @@\n-x\n+" + to + "\n"
}

// files writes files below dir, by name and text in turn.
func files(t *testing.T, dir string, all ...string) {
	t.Helper()
	for i := 0; i < len(all); i += 2 {
		name := filepath.Join(dir, all[i])
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(all[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// described is an out directory as a build leaves it, documents and all.
func described(t *testing.T) (string, *Lock) {
	t.Helper()
	dir, l := t.TempDir(), fixture(t)
	lock, err := l.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	m := outdir.NewManifest(outdir.BuildFacts{
		Kernel: l.Kernel.Version.String(), Suite: l.Rootfs.Suite, Config: l.Config.Base, Epoch: l.Rootfs.Epoch,
		Lock: units.DigestOf(
			lock,
		), Toolchain: outdir.NewToolchain(l.Toolchain), Imaging: outdir.NewToolchain(l.Imaging),
		Inputs: outdir.Inputs(l),
	}, outdir.RunFacts{})
	for _, name := range []string{"bzImage", "rootfs.img", "scripts/gdb/x.py"} {
		files(t, dir, name, name)
		a := outdir.Artifact{Path: name, Size: int64(len(name)), SHA256: units.DigestOf([]byte(name)), Mode: 0o644}
		m.Build.Artifacts = append(m.Build.Artifacts, a)
	}
	out, err := outdir.Open(dir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Write(LockFile, lock); err != nil {
		t.Fatal(err)
	}
	if _, err := out.WriteManifest(m, l); err != nil {
		t.Fatal(err)
	}
	return dir, l
}
