package vm

import (
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/terminal"
)

func TestCmdline(t *testing.T) {
	const base = "root=/dev/vda rw console=ttyS0 panic=-1 nokaslr no_timer_check"
	for _, c := range []struct {
		line Cmdline
		want string
	}{
		{Cmdline{Bus: qemu.VirtioBus}, base},
		{Cmdline{Bus: qemu.IDEBus}, strings.Replace(base, "vda", "sda", 1)},
		{Cmdline{Bus: qemu.AHCIBus, Extra: " quiet  loglevel=3 "}, strings.Replace(base, "vda", "sda", 1) + " quiet  loglevel=3"},
		{Cmdline{Bus: qemu.VirtioBus, Terminal: Terminal{Size: terminal.Size{Rows: 24, Cols: 80}, Term: "xterm-256color"}},
			base + " kimg.rows=24 kimg.cols=80 kimg.term=xterm-256color"},
		{Cmdline{Bus: qemu.VirtioBus, Shares: []Share{{Path: "/mnt/a b", Dir: "/x"}, {Path: "/src", Write: true}}, Extra: "quiet"},
			base + " kimg.share=kimg0,ro,L21udC9hIGI= kimg.share=kimg1,rw,L3NyYw== quiet"},
		{Cmdline{Bus: qemu.VirtioBus, Keys: true, Direct: &Direct{}}, base + " kimg.ssh=1 init=/usr/lib/kimg/agent"},
		{Cmdline{Bus: qemu.VirtioBus, Direct: &Direct{}}, base + " init=/usr/lib/kimg/agent"},
		{Cmdline{Bus: qemu.VirtioBus, Direct: &Direct{UserNet: true, Command: "sh"}},
			base + " init=/usr/lib/kimg/agent kimg.net=user kimg.init=c2g="},
		{Cmdline{Bus: qemu.VirtioBus, Terminal: Terminal{Size: terminal.Size{Rows: 24}, Term: "x init=/bin/sh"}}, base},
	} {
		if got := c.line.String(); got != c.want {
			t.Errorf("%+v:\n got %s\nwant %s", c.line, got, c.want)
		}
	}
}

func TestMissingConfig(t *testing.T) {
	err := Config{"VIRTIO_PCI": "y", "VIRTIO_CONSOLE": "m"}.agent()
	const want = "this kernel cannot run a command for the host: it was built without VIRTIO_CONSOLE"
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
