package export

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/kimg/kimg/internal/artifact"
)

// Firecracker is a configuration file of Firecracker's, which boots the uncompressed kernel and knows no disk but
// virtio over MMIO. The guest has no network: a TAP device would be needed, and whoever runs Firecracker has a name
// for it. The guest writes to the disk image, as Firecracker has no snapshots of a drive.
type Firecracker struct{}

// firecrackerConfig is as much of the format as it takes (Firecracker's src/firecracker/swagger/firecracker.yaml).
type firecrackerConfig struct {
	BootSource struct {
		Kernel string `json:"kernel_image_path"`
		Args   string `json:"boot_args"`
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
	if lacking := firecrackerLacks(&b.Guest); len(lacking) > 0 {
		b.warn("Firecracker will not boot this kernel: it was built without " + strings.Join(lacking, ", ") +
			"; build it with --set " + strings.Join(lacking, "=y --set ") + "=y")
	}
	var c firecrackerConfig
	c.BootSource.Kernel, c.BootSource.Args = b.path(artifact.Vmlinux), firecrackerArgs(&b.Guest)
	c.Drives = []firecrackerDrive{{ID: "rootfs", Path: b.path(artifact.Disk), Root: true}}
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
func firecrackerLacks(g *Guest) []string {
	var lacking []string
	for _, option := range []string{"VIRTIO_MMIO", "VIRTIO_MMIO_CMDLINE_DEVICES", "VIRTIO_BLK", "KVM_GUEST",
		"SERIAL_8250_CONSOLE"} {
		if !g.builtIn(option) {
			lacking = append(lacking, option)
		}
	}
	return lacking
}

// firecrackerArgs is the kernel's command line: as everywhere, but for the disk, which is virtio whatever it is in
// QEMU; and for a machine that has no PCI and resets by its keyboard's controller.
func firecrackerArgs(g *Guest) string {
	words := strings.Fields(g.Append)
	for i, word := range words {
		if strings.HasPrefix(word, "root=") {
			words[i] = "root=/dev/vda"
		}
	}
	return strings.Join(append(words, "reboot=k", "pci=off"), " ")
}
