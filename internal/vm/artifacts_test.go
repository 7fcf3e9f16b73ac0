package vm

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/qemu"
)

func TestMissingConfig(t *testing.T) {
	err := Config{"VIRTIO_PCI": "y", "VIRTIO_CONSOLE": "m"}.agent()
	const want = "this kernel cannot run a command for the host: it was built without VIRTIO_CONSOLE " +
		"(what is a module cannot be loaded: there is no initramfs)"
	if err == nil || err.Error() != want {
		t.Error(err)
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		name   string
		config Config
		bus    qemu.Bus
		net    string
		agent  bool
	}{
		{"virtio", Config{"VIRTIO_PCI": "y", "VIRTIO_BLK": "y", "VIRTIO_NET": "y", "VIRTIO_CONSOLE": "y", "E1000": "y"},
			qemu.VirtioBus, "virtio-net-pci", true},
		{"modules do not help", Config{"VIRTIO_PCI": "m", "VIRTIO_BLK": "m", "VIRTIO_CONSOLE": "m",
			"ATA_PIIX": "y", "BLK_DEV_SD": "y", "E1000": "y"}, qemu.IDEBus, "e1000", false},
		{"ahci", Config{"SATA_AHCI": "y", "BLK_DEV_SD": "y"}, qemu.AHCIBus, "", false},
		{"nothing", Config{"ATA_PIIX": "y"}, "", "", false},
	} {
		bus, err := c.config.bus()
		if bus != c.bus || (err != nil) != (c.bus == "") {
			t.Errorf("%s: bus %q, %v; want %q", c.name, bus, err, c.bus)
		}
		if got := c.config.card(UserNet); got != c.net {
			t.Errorf("%s: card %q; want %q", c.name, got, c.net)
		}
		if err := c.config.agent(); (err == nil) != c.agent {
			t.Errorf("%s: agent %v", c.name, err)
		}
	}
}

func TestReadConfig(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, artifact.Config)
	if err := os.WriteFile(name, []byte("# CONFIG_X is not set\nCONFIG_A=y\nCONFIG_S=\"a=b\"\n\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := ReadConfig(name)
	if err != nil || len(c) != 2 || c["A"] != "y" || c["S"] != `"a=b"` {
		t.Errorf("%v, %v", c, err)
	}
	var missing *MissingArtifactError
	if _, err := artifacts(dir, artifact.KernelImage(arch.Default)); !errors.As(err, &missing) ||
		missing.File != artifact.KernelImage(arch.Default) {
		t.Errorf("a missing kernel: %v", err)
	}
}
