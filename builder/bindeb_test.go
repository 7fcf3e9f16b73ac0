package builder

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/kimg/kimg/builder/kernel"
	"github.com/kimg/kimg/builder/toolchain"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/units"
)

// The asked make targets choose the toolchain's image, and everything says so.
func TestBinDebToolchain(t *testing.T) {
	v := units.KernelVersion{Major: 5, Minor: 10, Patch: 223}
	s := testSession(t)
	plain, err := s.toolchainFor(v, ToolchainLock{})
	if err != nil || plain.Target != "bullseye" {
		t.Fatalf("%s, %v", plain.Target, err)
	}
	s.spec.Targets = []string{"fs/open.i", kernel.BinDeb}
	packing, err := s.toolchainFor(v, plain) // as for an out directory that had another build
	if err != nil || packing.Target != "bullseye-deb" || packing.Compiler != plain.Compiler ||
		packing.Lock.Target != "bullseye-deb" {
		t.Fatalf("%s with %s, %v", packing.Target, packing.Compiler, err)
	}

	s.spec.Toolchain = "bookworm/gcc-11"
	var none *kernel.EraError
	if _, err := s.toolchainFor(v, packing); !errors.As(err, &none) ||
		!strings.Contains(none.Hint(), "bookworm/gcc-12") {
		t.Errorf("a compiler without an image that packs: %v", err)
	}
	s.spec.Kernel = v.String()
	if _, err := s.resolver(nil).localSource(t.Context()); !errors.As(err, &none) {
		t.Errorf("it is not refused before the download: %v", err)
	}

	l := fixture(t)
	was := s.plan(l).actions()
	l.Toolchain, l.Kernel.Targets = packing, []string{"fs/open.i", kernel.BinDeb}
	s.spec.Toolchain = ""
	p := s.plan(l)
	if p.actions().Kernel == was.Kernel || p.All[0].ID != "toolchain-bullseye-deb" {
		t.Errorf("the plan begins with %s", p.All[0].ID)
	}
}

// replayPacked is the replay of a lock for bindeb-pkg with that toolchain.
func replayPacked(t *testing.T, target toolchain.Target) error {
	t.Helper()
	_, l := written(t)
	lock, err := toolchain.Load(target, arch.Default)
	if err != nil {
		t.Fatal(err)
	}
	l.Toolchain.Target, l.Toolchain.Lock, l.Toolchain.Image = target, lock, lock.Ref()
	l.Kernel.Targets = []string{kernel.BinDeb}
	s := testSession(t)
	l.Actions = s.plan(l).actions()
	p, err := replayOf(t, writeLock(t, l), nil)
	if err == nil && !slices.Equal(p.Lock.Kernel.Targets, l.Kernel.Targets) {
		t.Errorf("replayed are %q", p.Lock.Kernel.Targets)
	}
	return err
}

func TestBinDebReplay(t *testing.T) {
	if err := replayPacked(t, "bullseye-deb"); err != nil {
		t.Error(err)
	}
	err := replayPacked(t, "bullseye")
	if want := "compiles Linux 5.10.223 with gcc-10 of bullseye-deb, not with gcc-10 of bullseye"; err == nil ||
		!strings.Contains(err.Error(), want) {
		t.Errorf("a lock of the image that cannot pack: %v", err)
	}
}
