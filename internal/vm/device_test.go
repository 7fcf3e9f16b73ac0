package vm

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestArgv(t *testing.T) {
	socket := func(name string) string { return "/run/" + name }
	for _, c := range []struct {
		device Device
		want   string
	}{
		{Base{}, "-M pc -no-user-config -nodefaults -display none -no-reboot"},
		{KVM, "-accel kvm"},
		{TCG, "-accel tcg,thread=multi"},
		{CPU{}, "-cpu max,la57=off -smp 1"},
		{CPU{Count: 4}, "-cpu max,la57=off -smp 4"},
		{Memory(1 << 30), "-m 1024M"},
		{Memory(1<<20 + 1), "-m 2M"},
		{Kernel{Image: "/out/bzImage", Append: "rw"}, "-kernel /out/bzImage -append rw"},
		{Disk{Image: "/a,b/r.img", Bus: VirtioBus},
			"-drive if=none,id=disk,format=raw,file=/a,,b/r.img,snapshot=on -device virtio-blk-pci,drive=disk"},
		{Disk{Image: "/r", Bus: IDEBus, Write: true},
			"-drive if=none,id=disk,format=raw,file=/r -device ide-hd,drive=disk,bus=ide.0"},
		{Disk{Image: "/r", Bus: AHCIBus, Write: true},
			"-drive if=none,id=disk,format=raw,file=/r -device ahci,id=ahci -device ide-hd,drive=disk,bus=ahci.0"},
		{Serial{}, "-chardev stdio,id=console,signal=off -serial chardev:console"},
		{Serial{Monitor: true}, "-chardev stdio,id=console,mux=on,signal=off -serial chardev:console " +
			"-mon chardev=console,mode=readline"},
		{Ports{Names: []string{"a", "b"}, Socket: socket}, "-device virtio-serial-pci " +
			"-chardev socket,id=port0,server=on,wait=off,path=/run/a -device virtserialport,chardev=port0,name=a " +
			"-chardev socket,id=port1,server=on,wait=off,path=/run/b -device virtserialport,chardev=port1,name=b"},
		{QMP{Socket: "/q"}, "-chardev socket,id=qmp,server=on,wait=off,path=/q -mon chardev=qmp,mode=control"},
		{GDBStub{Socket: "/g"}, "-chardev socket,id=gdb,server=on,wait=off,path=/g -gdb chardev:gdb -S"},
		{GDBStub{Socket: "/g", Running: true}, "-chardev socket,id=gdb,server=on,wait=off,path=/g -gdb chardev:gdb"},
		{QEMUNet{Card: Card{Model: "e1000"}}, "-netdev user,id=net -device e1000,netdev=net,romfile="},
		{QEMUNet{Card: Card{Model: "virtio-net-pci"}, Forwards: []Forward{{2222, 22}, {8080, 80}}},
			"-netdev user,id=net,hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=tcp:127.0.0.1:8080-:80 " +
				"-device virtio-net-pci,netdev=net,romfile="},
		{HostTAP{Card: Card{Model: "e1000", MAC: "52:54:00:01:02:03"}, Name: "tap0"},
			"-netdev tap,id=net,ifname=tap0,script=no,downscript=no " +
				"-device e1000,netdev=net,romfile=,mac=52:54:00:01:02:03"},
		{FrameNet{Card: Card{Model: "e1000", MAC: "52:54:00:01:02:03"}, Socket: "/run/a,b"},
			"-netdev stream,id=net,server=on,addr.type=unix,addr.path=/run/a,,b " +
				"-device e1000,netdev=net,romfile=,mac=52:54:00:01:02:03"},
		{NineP{ID: 1, Dir: "/a,b"}, "-fsdev local,id=kimg1,path=/a,,b,security_model=none,multidevs=remap,readonly=on " +
			"-device virtio-9p-pci,fsdev=kimg1,mount_tag=kimg1"},
		{NineP{Dir: "/d", Write: true}, "-fsdev local,id=kimg0,path=/d,security_model=none,multidevs=remap " +
			"-device virtio-9p-pci,fsdev=kimg0,mount_tag=kimg0"},
		{Verbatim{"-s"}, "-s"},
		{RNG{}, "-device virtio-rng-pci"},
	} {
		want := append([]string{"qemu-system-x86_64"}, strings.Fields(c.want)...)
		if diff := cmp.Diff(want, Argv(c.device)); diff != "" {
			t.Errorf("%T: -want +got\n%s", c.device, diff)
		}
	}
	if got := strings.Join(Argv(Verbatim{"-m", "64M"}, Memory(1<<30), Verbatim(nil)), " "); got != "qemu-system-x86_64 -m 1024M -m 64M" {
		t.Errorf("the person's words do not come last: %s", got)
	}
	if got := strings.Join(Argv(KVM, RNG{}), " "); got != "qemu-system-x86_64 -accel kvm -device virtio-rng-pci" {
		t.Errorf("two devices: %s", got)
	}
}

func TestCmdline(t *testing.T) {
	const base = "root=/dev/vda rw console=ttyS0 panic=-1 nokaslr no_timer_check"
	for _, c := range []struct {
		line Cmdline
		want string
	}{
		{Cmdline{Bus: VirtioBus}, base},
		{Cmdline{Bus: IDEBus}, strings.Replace(base, "vda", "sda", 1)},
		{Cmdline{Bus: AHCIBus, Extra: " quiet  loglevel=3 "}, strings.Replace(base, "vda", "sda", 1) + " quiet  loglevel=3"},
		{Cmdline{Bus: VirtioBus, Terminal: Terminal{Rows: 24, Cols: 80, Term: "xterm-256color"}},
			base + " kimg.rows=24 kimg.cols=80 kimg.term=xterm-256color"},
		{Cmdline{Bus: VirtioBus, Shares: []Share{{Path: "/mnt/a b", Dir: "/x"}, {Path: "/src", Write: true}}, Extra: "quiet"},
			base + " kimg.share=kimg0,ro,L21udC9hIGI= kimg.share=kimg1,rw,L3NyYw== quiet"},
		{Cmdline{Bus: VirtioBus, Keys: true, Direct: &Direct{}}, base + " kimg.ssh=1 init=/usr/lib/kimg/agent"},
		{Cmdline{Bus: VirtioBus, Direct: &Direct{}}, base + " init=/usr/lib/kimg/agent"},
		{Cmdline{Bus: VirtioBus, Direct: &Direct{UserNet: true, Command: "sh"}},
			base + " init=/usr/lib/kimg/agent kimg.net=user kimg.init=c2g="},
		{Cmdline{Bus: VirtioBus, Terminal: Terminal{Rows: 24, Term: "x init=/bin/sh"}}, base},
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
		bus    Bus
		net    string
		agent  bool
	}{
		{"virtio", Config{"VIRTIO_PCI": "y", "VIRTIO_BLK": "y", "VIRTIO_NET": "y", "VIRTIO_CONSOLE": "y", "E1000": "y"},
			VirtioBus, "virtio-net-pci", true},
		{"modules do not help", Config{"VIRTIO_PCI": "m", "VIRTIO_BLK": "m", "VIRTIO_CONSOLE": "m",
			"ATA_PIIX": "y", "BLK_DEV_SD": "y", "E1000": "y"}, IDEBus, "e1000", false},
		{"ahci", Config{"SATA_AHCI": "y", "BLK_DEV_SD": "y"}, AHCIBus, "", false},
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
