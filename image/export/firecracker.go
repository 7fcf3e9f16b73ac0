package export

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
)

// Firecracker is a configuration file of Firecracker's, which boots vmlinux on x86-64 and Image on arm64, and knows no
// disk but virtio over MMIO. The guest has no network: a TAP device would be needed, and whoever runs Firecracker has a
// name for it. The guest writes to the disk image, as Firecracker has no snapshots of a drive.
type Firecracker struct{}

// firecrackerConfig is as much of the format as it takes (Firecracker's src/firecracker/swagger/firecracker.yaml).
type firecrackerConfig struct {
	BootSource struct {
		Kernel    string `json:"kernel_image_path"`
		Initramfs string `json:"initrd_path,omitempty"`
		Args      string `json:"boot_args"`
	} `json:"boot-source"`
	Drives  []firecrackerDrive `json:"drives"`
	Machine struct {
		CPUs   int   `json:"vcpu_count"`
		Memory int64 `json:"mem_size_mib"`
	} `json:"machine-config"`
}

type firecrackerDrive struct {
	ID       string `json:"drive_id"`
	Path     string `json:"path_on_host"`
	Root     bool   `json:"is_root_device"`
	ReadOnly bool   `json:"is_read_only"`
}

// Export implements Format. It warns of a kernel that cannot boot there.
func (Firecracker) Export(_ context.Context, b *Build, w io.Writer) error {
	a, kernel := b.arch(), artifact.Vmlinux
	switch a {
	case arch.AMD64:
	case arch.ARM64:
		kernel = artifact.KernelImage(a)
	default:
		return fmt.Errorf("write configuration: Firecracker has no machine for %s", a)
	}
	if lacking := firecrackerLacks(a, &b.Guest); len(lacking) > 0 {
		b.warn("Firecracker will not boot this kernel: it was built without " + strings.Join(lacking, ", ") +
			"; build it with --set " + strings.Join(lacking, "=y --set ") + "=y")
	}
	var c firecrackerConfig
	c.BootSource.Kernel, c.BootSource.Args = b.path(kernel), firecrackerArgs(a, &b.Guest)
	c.Drives = []firecrackerDrive{}
	if f := b.Guest.Form; f.OnDisk() {
		c.Drives = append(c.Drives,
			firecrackerDrive{ID: "rootfs", Path: b.path(f.File()), Root: true, ReadOnly: f.ReadOnly()})
	} else {
		c.BootSource.Initramfs = b.path(f.File())
	}
	c.Machine.CPUs, c.Machine.Memory = b.Guest.CPUs, b.Guest.Memory
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(c); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

// firecrackerLacks names the options that must be built in and are not
// (Firecracker's docs/kernel-policy.md, minimal boot requirements).
func firecrackerLacks(a Arch, g *Guest) []string {
	var lacking []string
	needs := []string{"VIRTIO_MMIO", "VIRTIO_MMIO_CMDLINE_DEVICES", "VIRTIO_BLK", "KVM_GUEST", "SERIAL_8250_CONSOLE"}
	if a == arch.ARM64 { // whose devices are in a device tree
		needs = []string{"VIRTIO_MMIO", "VIRTIO_BLK", "SERIAL_8250_CONSOLE", "SERIAL_OF_PLATFORM"}
	}
	for _, option := range needs {
		if !g.builtIn(option) {
			lacking = append(lacking, option)
		}
	}
	return lacking
}

// firecrackerArgs is the kernel's command line: as everywhere, but for the disk, which is virtio whatever it is in
// QEMU; for the console, an 8250; and, on x86-64, for a machine that has no PCI and resets by its keyboard's
// controller.
func firecrackerArgs(a Arch, g *Guest) string {
	words := strings.Fields(g.Append)
	for i, word := range words {
		if strings.HasPrefix(word, "root=") {
			words[i] = "root=/dev/vda"
		}
		if word == "console="+a.Console {
			words[i] = "console=ttyS0"
		}
	}
	if a != arch.AMD64 {
		return strings.Join(words, " ")
	}
	return strings.Join(append(words, "reboot=k", "pci=off"), " ")
}
