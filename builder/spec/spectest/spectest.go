// Package spectest has a lock as resolving would have made it, for tests.
package spectest

import (
	"testing"
	"time"

	"github.com/kimg/kimg/builder/spec"
	"github.com/kimg/kimg/builder/toolchain"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/units"
)

// Lock is a lock of a suite's own kernel.
func Lock(t *testing.T) *spec.Lock {
	t.Helper()
	when := time.Date(2025, 8, 9, 9, 16, 30, 0, time.UTC)
	from := spec.ArchiveLock{
		Suite: "bullseye", Date: when, InRelease: units.DigestOf([]byte("InRelease")),
		SignedBy: []string{"A4285295FC7B1A81600062A9605C66F00D6C9793"},
	}
	pkg := func(name string) archive.Locked {
		return archive.Locked{
			Name: name, Version: "1.0-1", Arch: "amd64", Filename: "pool/" + name + ".deb", Size: 7,
			SHA256: units.DigestOf([]byte(name)),
		}
	}
	l := &spec.Lock{Version: spec.LockVersion, Arch: arch.AMD64}
	source := pkg("linux-source-5.10")
	l.Kernel = spec.KernelLock{
		Request: "suite", Suite: "bullseye", Source: "suite",
		Version: units.KernelVersion{Major: 5, Minor: 10, Patch: 223},
		SHA256:  source.SHA256, Package: &source, Archive: &from, Epoch: when.Unix(),
	}
	l.Config = spec.ConfigLock{Base: "vm"}
	l.Rootfs = spec.RootfsLock{
		Suite: "bullseye", Variant: archive.Minbase, Include: []string{}, Epoch: when.Unix(), Archive: from,
		Required: []archive.Locked{pkg("dpkg")}, Base: []archive.Locked{pkg("systemd-sysv"), pkg("udev")},
	}
	l.Image = spec.NewImageLock(1<<30, l.Rootfs, l.Custom)
	for target, to := range map[toolchain.Target]*spec.ToolchainLock{"bullseye": &l.Toolchain,
		toolchain.Imaging: &l.Imaging} {
		lock, err := toolchain.Load(target, arch.Default)
		if err != nil {
			t.Fatal(err)
		}
		*to = spec.ToolchainLock{Target: target, Origin: spec.Shipped, Image: "kimg-toolchain:" + string(target) +
			"-0123456789ab", Lock: lock}
	}
	l.Toolchain.Compiler, l.Toolchain.Why = "gcc-10", "5.10.223 -> bullseye, gcc-10: because"
	return l
}
