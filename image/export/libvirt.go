package export

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
)

// Libvirt is a domain of libvirt's QEMU driver that boots the artifacts where they are (libvirt's documentation,
// "Domain XML format"). Its disk is transient: what the guest writes is thrown away at its end, as in kimg run.
type Libvirt struct{}

// domain is as much of the format as it takes.
type domain struct {
	XMLName xml.Name `xml:"domain"`
	Type    string   `xml:"type,attr"`
	Comment string   `xml:",comment"`
	Name    string   `xml:"name"`
	Memory  measured `xml:"memory"`
	VCPU    int      `xml:"vcpu"`
	OS      struct {
		Type struct {
			Arch    string `xml:"arch,attr"`
			Machine string `xml:"machine,attr"`
			Text    string `xml:",chardata"`
		} `xml:"type"`
		Kernel    string `xml:"kernel"`
		Initramfs string `xml:"initrd,omitempty"`
		Cmdline   string `xml:"cmdline"`
	} `xml:"os"`
	Features struct {
		ACPI *struct{} `xml:"acpi"`
	} `xml:"features"`
	CPU struct {
		Mode  string `xml:"mode,attr"`
		Model string `xml:"model,omitempty"`
	} `xml:"cpu"`
	OnReboot string  `xml:"on_reboot"`
	OnCrash  string  `xml:"on_crash"`
	Devices  devices `xml:"devices"`
}

type measured struct {
	Unit string `xml:"unit,attr"`
	N    int64  `xml:",chardata"`
}

type devices struct {
	Disk      *drive `xml:"disk"`
	Interface *nic   `xml:"interface"`
	Serial    struct {
		Type string `xml:"type,attr"`
	} `xml:"serial"`
	Console struct {
		Type   string `xml:"type,attr"`
		Target struct {
			Type string `xml:"type,attr"`
		} `xml:"target"`
	} `xml:"console"`
	RNG struct {
		Model   string `xml:"model,attr"`
		Backend struct {
			Model string `xml:"model,attr"`
			Text  string `xml:",chardata"`
		} `xml:"backend"`
	} `xml:"rng"`
}

type drive struct {
	Type   string `xml:"type,attr"`
	Device string `xml:"device,attr"`
	Driver struct {
		Name string `xml:"name,attr"`
		Type string `xml:"type,attr"`
	} `xml:"driver"`
	Source struct {
		File string `xml:"file,attr"`
	} `xml:"source"`
	Target struct {
		Dev string `xml:"dev,attr"`
		Bus string `xml:"bus,attr"`
	} `xml:"target"`
	Transient *struct{} `xml:"transient"`
}

type nic struct {
	Type  string `xml:"type,attr"`
	Model struct {
		Type string `xml:"type,attr"`
	} `xml:"model"`
}

// Export implements Format.
func (Libvirt) Export(_ context.Context, b *Build, w io.Writer) error {
	text, err := xml.MarshalIndent(domainOf(b), "", "  ")
	if err != nil {
		return fmt.Errorf("write domain: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s\n", text)
	return err
}

func domainOf(b *Build) *domain {
	g := &b.Guest
	d := &domain{
		Type: "kvm", Name: "kimg", Memory: measured{"MiB", g.Memory}, VCPU: g.CPUs, OnReboot: "destroy",
		OnCrash: "destroy",
		Comment: ` written by kimg export. For a machine without KVM say type="qemu", and take the cpu element out. `,
	}
	a := b.arch()
	d.OS.Type.Arch, d.OS.Type.Text = a.Libvirt, "hvm"
	d.OS.Type.Machine, _, _ = strings.Cut(a.Machine, ",") // libvirt has words of its own for what is behind it
	d.OS.Kernel, d.OS.Cmdline = b.path(artifact.KernelImage(a)), g.Append
	d.CPU.Mode = "host-passthrough"
	if a == arch.AMD64 { // elsewhere it would take firmware
		d.Features.ACPI = &struct{}{}
	} else { // most machines are of another one, and emulate it; QEMU's own choice may be a processor of 32 bits
		d.Type, d.CPU.Mode, d.CPU.Model = "qemu", "custom", a.CPU
		d.Comment = fmt.Sprintf(" written by kimg export. For a machine of %s with KVM "+
			`say type="kvm", and <cpu mode="host-passthrough"/>. `, a)
	}

	if g.Form.OnDisk() {
		d.Devices.Disk = diskOf(b)
	} else {
		d.OS.Initramfs = b.path(g.Form.File())
	}
	if g.Net != "" {
		d.Devices.Interface = &nic{Type: "user"}
		d.Devices.Interface.Model.Type = strings.TrimSuffix(g.Net, "-net-pci") // libvirt's name of virtio-net-pci
	}
	d.Devices.Serial.Type = "pty"
	d.Devices.Console.Type, d.Devices.Console.Target.Type = "pty", "serial"
	d.Devices.RNG.Model, d.Devices.RNG.Backend.Model, d.Devices.RNG.Backend.Text = "virtio", "random", "/dev/urandom"
	return d
}

func diskOf(b *Build) *drive {
	disk := &drive{}
	disk.Type, disk.Device, disk.Driver.Name, disk.Driver.Type = "file", "disk", "qemu", "raw"
	disk.Source.File, disk.Transient = b.path(artifact.Disk), &struct{}{}
	switch b.Guest.Disk {
	case "virtio":
		disk.Target.Dev, disk.Target.Bus = "vda", "virtio"
	case "ide":
		disk.Target.Dev, disk.Target.Bus = "hda", "ide"
	default:
		disk.Target.Dev, disk.Target.Bus = "sda", "sata"
	}
	return disk
}
