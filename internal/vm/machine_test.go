package vm

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/form"
	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/terminal"
)

func TestCmdline(t *testing.T) {
	const base = "root=/dev/vda rw console=ttyS0 panic=-1 nokaslr no_timer_check"
	for _, c := range []struct {
		line Cmdline
		want string
	}{
		{Cmdline{Console: "ttyS0", Root: qemu.VirtioBus.Root()}, base},
		{Cmdline{Console: "ttyS0", Root: qemu.IDEBus.Root()}, strings.Replace(base, "vda", "sda", 1)},
		{Cmdline{Console: "ttyS0", Root: qemu.AHCIBus.Root(), Extra: " quiet  loglevel=3 "},
			strings.Replace(base, "vda", "sda", 1) + " quiet  loglevel=3"},
		{Cmdline{Console: "ttyS0", Root: qemu.VirtioBus.Root(),
			Terminal: Terminal{Size: terminal.Size{Rows: 24, Cols: 80}, Term: "xterm-256color"}},
			base + " kimg.rows=24 kimg.cols=80 kimg.term=xterm-256color"},
		{Cmdline{Console: "ttyS0", Root: qemu.VirtioBus.Root(),
			Shares: []Share{{Path: "/mnt/a b", Dir: "/x"}, {Path: "/src", Write: true}}, Extra: "quiet"},
			base + " kimg.share=kimg0,ro,L21udC9hIGI= kimg.share=kimg1,rw,L3NyYw== quiet"},
		{Cmdline{Console: "ttyS0", Root: qemu.VirtioBus.Root(), Keys: true, Direct: &Direct{}},
			base + " kimg.ssh=1 init=/usr/lib/kimg/agent"},
		{Cmdline{Console: "ttyS0", Root: qemu.VirtioBus.Root(), KeepPanics: true, Extra: "quiet"},
			strings.Replace(base, "panic=-1 ", "", 1) + " quiet"},
		{Cmdline{Console: "ttyS0", Root: qemu.VirtioBus.Root(), Direct: &Direct{}}, base + " init=/usr/lib/kimg/agent"},
		{Cmdline{Console: "ttyS0", Root: qemu.VirtioBus.Root(), Direct: &Direct{UserNet: true, Command: "sh"}},
			base + " init=/usr/lib/kimg/agent kimg.net=user kimg.init=c2g="},
		{Cmdline{Console: "ttyS0", Root: qemu.VirtioBus.Root(),
			Terminal: Terminal{Size: terminal.Size{Rows: 24}, Term: "x init=/bin/sh"}}, base},
		{Cmdline{Console: "ttyS0", Form: form.Initramfs}, strings.TrimPrefix(base, "root=/dev/vda rw ")},
		{Cmdline{Console: "ttyS0", Form: form.Initramfs, Direct: &Direct{}},
			strings.TrimPrefix(base, "root=/dev/vda rw ") + " rdinit=/usr/lib/kimg/agent"},
		{Cmdline{Console: "ttyS0", Root: qemu.VirtioBus.Root(), Form: form.Squashfs},
			strings.Replace(base, "rw", "ro init=/usr/lib/kimg/overlay", 1)},
		{Cmdline{Console: "ttyS0", Root: qemu.VirtioBus.Root(), Form: form.Squashfs, Direct: &Direct{}},
			strings.Replace(base, "rw", "ro init=/usr/lib/kimg/overlay", 1) + " kimg_init=/usr/lib/kimg/agent"},
		{Cmdline{Console: "ttyS0", Root: qemu.VirtioBus.Root(), Form: form.Form("btrfs")}, base},
		{Cmdline{Arch: arch.ARM64, Console: "ttyAMA0", Root: qemu.VirtioBus.Root()},
			"root=/dev/vda rw console=ttyAMA0 panic=-1 nokaslr"},
	} {
		if got := c.line.String(); got != c.want {
			t.Errorf("%+v:\n got %s\nwant %s", c.line, got, c.want)
		}
	}
}

func TestDescribe(t *testing.T) {
	dir := t.TempDir()
	var missing *MissingArtifactError
	if _, _, err := Describe(dir); !errors.As(err, &missing) {
		t.Errorf("an empty directory: %v", err)
	}
	for name, text := range map[string]string{
		artifact.Config: "CONFIG_ATA_PIIX=y\nCONFIG_BLK_DEV_SD=y\nCONFIG_E1000=y\n" +
			"CONFIG_EXT4_FS=y\nCONFIG_BINFMT_ELF=y\n",
		artifact.KernelImage(arch.Default): "", artifact.Disk: "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m, config, err := Describe(dir)
	if err != nil {
		t.Fatal(err)
	}
	if m.Bus != qemu.IDEBus || m.CardModel() != "e1000" || m.Memory != 1<<30 || m.CPUs != 1 ||
		m.Kernel.String() != "root=/dev/sda rw console=ttyS0 panic=-1 nokaslr no_timer_check" ||
		config["E1000"] != "y" {
		t.Errorf("%+v", m)
	}
	argv := strings.Join(m.Argv(), " ")
	for _, want := range []string{
		"qemu-system-x86_64 -M pc", "-accel kvm -accel tcg", "-kernel ./bzImage -append root=/dev/sda",
		"file=./rootfs.img,snapshot=on", "-device e1000",
	} {
		if !strings.Contains(argv, want) {
			t.Errorf("no %q in %s", want, argv)
		}
	}
	if strings.Contains(argv, dir) || strings.Contains(argv, "path=") {
		t.Errorf("a path or a socket of kimg's own in %s", argv)
	}
}

// What boots a guest of another architecture is by its vmlinux, and knows nothing of x86.
func TestDescribeAnotherArch(t *testing.T) {
	const rest = "-no-user-config -nodefaults -display none -no-reboot -accel tcg,thread=multi " +
		"-device virtio-rng-pci -cpu CPU -smp 1 -m 1024M -kernel ./Image " +
		"-append root=/dev/vda rw console=TTY panic=-1 nokaslr " +
		"-drive if=none,id=disk,format=raw,file=./rootfs.img,snapshot=on -device virtio-blk-pci,drive=disk " +
		"-netdev user,id=net -device virtio-net-pci,netdev=net,romfile= " +
		"-chardev stdio,id=console,mux=on,signal=off -serial chardev:console -mon chardev=console,mode=readline"
	for _, c := range []struct {
		machine        byte // of ELF
		qemu, cpu, tty string
	}{
		{0xb7, "qemu-system-aarch64 -M virt ", "cortex-a72", "ttyAMA0"},
		{0xf3, "qemu-system-riscv64 -M virt ", "rv64", "ttyS0"},
	} {
		dir := t.TempDir()
		for name, text := range map[string]string{
			artifact.Config: "CONFIG_VIRTIO_PCI=y\nCONFIG_VIRTIO_BLK=y\nCONFIG_VIRTIO_NET=y\nCONFIG_EXT4_FS=y\n" +
				"CONFIG_BINFMT_ELF=y\n",
			artifact.Vmlinux: "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9) + "\x02\x00" +
				string([]byte{c.machine, 0}),
			"Image": "", artifact.Disk: "",
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		m, _, err := Describe(dir)
		if err != nil {
			t.Fatal(err)
		}
		want := c.qemu + strings.NewReplacer("CPU", c.cpu, "TTY", c.tty).Replace(rest)
		if got := strings.Join(m.Argv(), " "); got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	}
}
