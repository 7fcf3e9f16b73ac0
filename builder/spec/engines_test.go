package spec_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/builder/spec/spectest"
	"github.com/kimg/kimg/builder/toolchain"
	"github.com/kimg/kimg/internal/arch"
)

// A lock has the packages of each architecture of engines, or says how they can be had.
func TestToolchainOn(t *testing.T) {
	l := spectest.Lock(t)
	arm, err := toolchain.Load(l.Toolchain.Target, arch.ARM64)
	if err != nil {
		t.Fatal(err)
	}
	var none *spec.EngineError
	if _, err := l.Toolchain.On(arch.ARM64); !errors.As(err, &none) || none.Hint() != "kimg lock update toolchain" {
		t.Errorf("an older lock: %v", err)
	}
	before := spec.Diff(l, l, l.Actions)
	with := *l
	with.Toolchain.Engines = []*toolchain.Lock{arm}
	for engine, want := range map[arch.Arch]*toolchain.Lock{arch.AMD64: l.Toolchain.Lock, arch.ARM64: arm} {
		if got, err := with.Toolchain.On(engine); err != nil || got != want {
			t.Errorf("%s: %v, %v", engine, got, err)
		}
	}
	if _, err := with.Toolchain.On(arch.RISCV64); !errors.As(err, &none) ||
		!strings.Contains(none.Hint(), "an engine of amd64") {
		t.Errorf("engines that kimg has nothing for: %v", err)
	}
	forms := &spec.EngineError{Target: toolchain.ImagingForms, Engine: arch.ARM64}
	if got := forms.Hint(); got != "there are none: use an engine of amd64" {
		t.Errorf("what makes other forms than ext4: %s", got)
	}
	change := spec.Diff(l, &with, l.Actions)
	if len(before) != 0 || len(change) != 1 || !slices.ContainsFunc(change[0].Facts, func(m spec.Move) bool {
		return m.Name == "for engines of arm64" && m.From == "" && m.To == arm.Digest().Short()
	}) {
		t.Errorf("what it changes: %+v", change)
	}

	b, err := with.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	back, err := spec.ParseLock(b)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := back.Toolchain.On(arch.ARM64); err != nil || got.Ref() != arm.Ref() {
		t.Errorf("read back: %v", err)
	}
	// One list in the other's place.
	with.Toolchain.Lock, with.Toolchain.Engines = arm, []*toolchain.Lock{l.Toolchain.Lock}
	if b, err = with.Marshal(); err == nil {
		_, err = spec.ParseLock(b)
	}
	if err == nil || !strings.Contains(err.Error(), "for another engine") {
		t.Errorf("lists in each other's place: %v", err)
	}
}
