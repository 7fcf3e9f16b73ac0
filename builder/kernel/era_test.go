package kernel

import (
	"errors"
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/units"
)

func version(t *testing.T, s string) units.KernelVersion {
	t.Helper()
	v, err := units.ParseKernelVersion(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestEraFor(t *testing.T) {
	for _, c := range []struct{ version, override, want, err string }{
		{"4.17.19", "", "", "4.18 is the oldest that kimg builds"},
		{"2.6.39", "", "", "4.18 is the oldest"},
		{"4.18-rc1", "", "bullseye/gcc-9", ""},
		{"4.20.6", "", "bullseye/gcc-9", ""},
		{"5.6.19", "", "bullseye/gcc-9", ""},
		{"5.7-rc1", "", "bullseye/gcc-10", ""},
		{"5.10.223", "", "bullseye/gcc-10", ""},
		{"5.17.15", "", "bullseye/gcc-10", ""},
		{"5.18", "", "bookworm/gcc-12", ""},
		{"6.1.176", "", "bookworm/gcc-12", ""},
		{"6.11", "", "bookworm/gcc-12", ""},
		{"6.12.107", "", "trixie/gcc-14", ""},
		{"7.3", "", "trixie/gcc-14", ""},
		{"6.12", "bookworm/gcc-12", "bookworm/gcc-12", ""},
		{"6.12", "bullseye", "bullseye/gcc-10", ""},
		{"6.1", "bookworm/gcc-11", "bookworm/gcc-11", ""},
		{"4.4", "bullseye/gcc-9", "bullseye/gcc-9", ""},
		{"6.12", "bookworm/gcc-14", "", "bookworm has gcc-12, gcc-11"},
		{"6.12", "sarge", "", "there is none of that suite"},
	} {
		e, err := EraFor(version(t, c.version), c.override)
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s %s: error %v, want one with %q", c.version, c.override, err, c.err)
			}
		case err != nil:
			t.Errorf("%s %s: %v", c.version, c.override, err)
		case e.Toolchain() != c.want:
			t.Errorf("%s %s: %s, want %s", c.version, c.override, e.Toolchain(), c.want)
		}
	}
}

// TestErasTouch holds that the table has neither gaps nor overlaps, and that
// every era's compiler is one that its toolchain has.
func TestErasTouch(t *testing.T) {
	for i, e := range eras {
		if i+1 < len(eras) && e.Before != eras[i+1].From {
			t.Errorf("era %s ends before %s, and the next begins with %s", e.Range(), e.Before, eras[i+1].From)
		}
		if c, err := EraFor(e.From, e.Toolchain()); err != nil || c.Chosen {
			t.Errorf("era %s: its own toolchain as an override: %v, %v", e.Range(), c, err)
		}
		if e.Why == "" {
			t.Errorf("era %s says no reason", e.Range())
		}
	}
	if last := eras[len(eras)-1]; last.Before != (units.KernelVersion{}) {
		t.Error("the last era has an end")
	}
}

func TestEraLine(t *testing.T) {
	e, err := EraFor(version(t, "4.20.6"), "")
	if err != nil {
		t.Fatal(err)
	}
	want := "4.20.6 -> bullseye, gcc-9: gcc 10 panics in start_secondary before 5.7"
	if got := e.Line(version(t, "4.20.6"), arch.Default); !strings.HasPrefix(got, want) {
		t.Error(got)
	}
	if e, err = EraFor(version(t, "6.1.176"), ""); err != nil {
		t.Fatal(err)
	}
	here, there := e.Line(e.From, arch.Default), e.Line(e.From, arch.PPC64EL)
	if strings.Contains(here, "not proven") ||
		there != here+" (not proven yet on ppc64el)" || e.ProvenFor(arch.Default) != e.Proven {
		t.Errorf("what is proven on one architecture is not on another: %s; %s", here, there)
	}
	if e, err = EraFor(version(t, "4.20.6"), "trixie"); err != nil {
		t.Fatal(err)
	}
	want = "it was asked for (its era is bullseye/gcc-9: gcc 10 panics"
	if got := e.Line(version(t, "4.20.6"), arch.Default); !strings.Contains(got, want) {
		t.Error(got)
	}
}

func TestEraTarget(t *testing.T) {
	for _, c := range []struct{ version, override, image, deb string }{
		{"4.20.6", "", "bullseye", "bullseye-deb"},
		{"5.10.223", "", "bullseye", "bullseye-deb"},
		{"6.1.176", "", "bookworm", "bookworm-deb"},
		{"6.12.107", "", "trixie", "trixie-deb"},
		{"6.12.107", "bookworm", "bookworm", "bookworm-deb"},
		{"6.1.176", "bookworm/gcc-11", "bookworm-gcc-11", ""},
		{"6.12.107", "trixie/gcc-12", "trixie-gcc-12", ""},
		{"6.12.107", "trixie/gcc-13", "trixie-gcc-13", ""},
	} {
		e, err := EraFor(version(t, c.version), c.override)
		if err != nil {
			t.Fatal(err)
		}
		for _, targets := range [][]string{nil, {"fs/open.i", "modules"}} {
			if got, err := e.Target(arch.Default, targets); got != c.image || err != nil {
				t.Errorf("%s %s for %q: %q, %v, want %s", c.version, c.override, targets, got, err, c.image)
			}
		}
		got, err := e.Target(arch.Default, []string{"fs/open.i", BinDeb})
		if got != c.deb || (err == nil) != (c.deb != "") {
			t.Errorf("%s %s, packed: %q, %v, want %q", c.version, c.override, got, err, c.deb)
		}
		if none := (*EraError)(nil); err != nil &&
			(!errors.As(err, &none) || !strings.Contains(err.Error(), "none has "+e.Toolchain()) ||
				!strings.Contains(none.Hint(),
					"bullseye/gcc-10, bullseye/gcc-9, bookworm/gcc-12, trixie/gcc-14")) {
			t.Errorf("%s %s, packed: %v, hint %q", c.version, c.override, err, err.(*EraError).Hint())
		}
	}
}

// Another architecture's compiler is in an image of its own, or there is none, which is told with those that are.
func TestTargetOfAnotherArch(t *testing.T) {
	for _, c := range []struct {
		version string
		arch    arch.Arch
		targets []string
		image   string
		hint    string
	}{
		{"6.12.107", arch.ARM64, nil, "trixie-arm64", ""},
		{"6.12.107", arch.RISCV64, []string{"fs/open.i"}, "trixie-riscv64", ""},
		{"6.12.107", arch.PPC64EL, nil, "trixie-ppc64el", ""},
		{"6.1.176", arch.ARM64, nil, "bookworm-arm64", ""},
		{"6.1.176", arch.RISCV64, nil, "bookworm-riscv64", ""},
		{"6.1.176", arch.PPC64EL, nil, "", "trixie/gcc-14 with --toolchain"},
		{"5.10.223", arch.ARM64, nil, "", "bookworm/gcc-12, trixie/gcc-14 with --toolchain"},
		{"6.12.107", arch.ARM64, []string{BinDeb}, "", "leave out --target bindeb-pkg"},
	} {
		e, err := EraFor(version(t, c.version), "")
		if err != nil {
			t.Fatal(err)
		}
		got, err := e.Target(c.arch, c.targets)
		var none *EraError
		if got != c.image || (err == nil) != (c.image != "") ||
			err != nil && (!errors.As(err, &none) || !strings.Contains(none.Hint(), c.hint)) {
			t.Errorf("%s, %s: %q, %v", c.version, c.arch, got, err)
		}
	}
}
