package qemu

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kimg/kimg/internal/arch"
)

func TestMachineOf(t *testing.T) {
	for _, c := range []struct {
		accel Accel
		arch  arch.Arch
		want  string
	}{
		{TCG, arch.AMD64, "pc max,la57=off"}, {KVM, arch.AMD64, "pc max,la57=off"}, {HVF, arch.AMD64, "pc host"},
		{TCG, arch.ARM64, "virt cortex-a72"}, {KVM, arch.ARM64, "virt,gic-version=host host"},
		{HVF, arch.ARM64, "virt host"},
	} {
		if machine, cpu := c.accel.MachineOf(c.arch); machine+" "+cpu != c.want {
			t.Errorf("%s of %s: %s %s, want %s", c.accel, c.arch, machine, cpu, c.want)
		}
	}
}

func TestArgv(t *testing.T) {
	socket := func(name string) string { return "/run/" + name }
	for _, c := range []struct {
		device Device
		want   string
	}{
		{Base{Machine: "pc"}, "-M pc -no-user-config -nodefaults -display none -no-reboot"},
		{KVM, "-accel kvm"},
		{HVF, "-accel hvf"},
		{TCG, "-accel tcg,thread=multi"},
		{CPU{Model: "max,la57=off"}, "-cpu max,la57=off -smp 1"},
		{CPU{Model: "max,la57=off", Count: 4}, "-cpu max,la57=off -smp 4"},
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
		{Replay{Log: "/a,b", Shift: 5, Snapshot: "init", Global: "apic-common.vapic=off"},
			"-accel tcg,thread=single -global apic-common.vapic=off " +
				"-icount shift=5,rr=record,rrfile=/a,,b,rrsnapshot=init -no-shutdown"},
		{Replay{Replay: true, Log: "/l", Snapshot: "s"}, "-accel tcg,thread=single " +
			"-icount shift=0,rr=replay,rrfile=/l,rrsnapshot=s -no-shutdown"},
		{ReplayDisk{Image: "/r", Overlay: "/o", Script: "/s"},
			"-drive if=none,id=image,driver=qcow2,file.driver=file,file.filename=/o,backing.driver=raw," +
				"backing.file.driver=file,backing.file.filename=/r,backing.read-only=on " +
				"-drive driver=blkreplay,if=none,id=disk,image=image -device virtio-blk-pci,drive=disk " +
				"-drive if=none,id=text,driver=raw,file.driver=file,file.filename=/s,read-only=on " +
				"-drive driver=blkreplay,if=none,id=script,image=text,read-only=on " +
				"-device virtio-blk-pci,drive=script"},
		{ReplayDisk{Image: "/r", Overlay: "/o", Below: "/b", Script: "/s"},
			"-drive if=none,id=image,driver=qcow2,file.driver=qcow2,file.file.driver=file,file.file.filename=/o," +
				"file.backing.driver=raw,file.backing.file.driver=file,file.backing.file.filename=/b," +
				"file.backing.read-only=on,backing.driver=raw," +
				"backing.file.driver=file,backing.file.filename=/r,backing.read-only=on " +
				"-drive driver=blkreplay,if=none,id=disk,image=image -device virtio-blk-pci,drive=disk " +
				"-drive if=none,id=text,driver=raw,file.driver=file,file.filename=/s,read-only=on " +
				"-drive driver=blkreplay,if=none,id=script,image=text,read-only=on " +
				"-device virtio-blk-pci,drive=script"},
		{SerialFiles{{Output: "/c", Input: "/t"}, {Output: "/d"}},
			"-chardev file,id=serial0,path=/c,input-path=/t -serial chardev:serial0 " +
				"-chardev file,id=serial1,path=/d -serial chardev:serial1"},
		{SerialFiles{{Output: "/c"}, {Output: "/d", Device: "pci-serial"}},
			"-chardev file,id=serial0,path=/c -serial chardev:serial0 " +
				"-chardev file,id=serial1,path=/d -serial chardev:serial1 -device pci-serial,chardev=serial1"},
		{ReplayNet{Card{Model: "virtio-net-pci"}}, "-netdev user,id=net " +
			"-device virtio-net-pci,netdev=net,romfile=,guest_announce=off " +
			"-object filter-replay,id=packets,netdev=net"},
		{ReplayNet{Card{Model: "e1000"}}, "-netdev user,id=net -device e1000,netdev=net,romfile= " +
			"-object filter-replay,id=packets,netdev=net"},
		{QMP{Socket: "/q"}, "-chardev socket,id=qmp,server=on,wait=off,path=/q -mon chardev=qmp,mode=control"},
		{GDBStub{Socket: "/g"}, "-chardev socket,id=gdb,server=on,wait=off,path=/g -gdb chardev:gdb -S"},
		{GDBStub{Socket: "/g", Running: true}, "-chardev socket,id=gdb,server=on,wait=off,path=/g -gdb chardev:gdb"},
		{UserNet{Card: Card{Model: "e1000"}}, "-netdev user,id=net -device e1000,netdev=net,romfile="},
		{UserNet{Card: Card{Model: "virtio-net-pci"}, Forwards: []Forward{{2222, 22}, {8080, 80}}},
			"-netdev user,id=net,hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=tcp:127.0.0.1:8080-:80 " +
				"-device virtio-net-pci,netdev=net,romfile="},
		{HostTAP{Card: Card{Model: "e1000", MAC: "52:54:00:01:02:03"}, Name: "tap0"},
			"-netdev tap,id=net,ifname=tap0,script=no,downscript=no " +
				"-device e1000,netdev=net,romfile=,mac=52:54:00:01:02:03"},
		{FrameNet{Card: Card{Model: "e1000", MAC: "52:54:00:01:02:03"}, Socket: "/run/a,b"},
			"-netdev stream,id=net,server=on,addr.type=unix,addr.path=/run/a,,b " +
				"-device e1000,netdev=net,romfile=,mac=52:54:00:01:02:03"},
		{NineP{Tag: "kimg1", Dir: "/a,b"},
			"-fsdev local,id=kimg1,path=/a,,b,security_model=none,multidevs=remap,readonly=on " +
				"-device virtio-9p-pci,fsdev=kimg1,mount_tag=kimg1"},
		{NineP{Tag: "kimg0", Dir: "/d", Write: true},
			"-fsdev local,id=kimg0,path=/d,security_model=none,multidevs=remap " +
				"-device virtio-9p-pci,fsdev=kimg0,mount_tag=kimg0"},
		{Verbatim{"-s"}, "-s"},
		{RNG{}, "-device virtio-rng-pci"},
		{Base{Machine: "pc", OwnRAM: true},
			"-M pc,memory-backend=ram -no-user-config -nodefaults -display none -no-reboot"},
		{SharedMemory{1 << 30, "/run/ram"},
			"-m 1024M -object memory-backend-file,id=ram,share=on,size=1024M,mem-path=/run/ram"},
		{KeptMemory{Size: 1 << 30, File: "/k,1/ram"},
			"-m 1024M -object memory-backend-file,id=ram,share=off,size=1024M,mem-path=/k,,1/ram"},
		{KeptMemory{Size: 1 << 30, File: "/k/ram", ReadOnly: true}, "-m 1024M -object " +
			"memory-backend-file,id=ram,share=off,size=1024M,mem-path=/k/ram,readonly=on,rom=off"},
		{Incoming{}, "-incoming defer"},
		{VMGenID{}, "-device vmgenid,guid=auto"},
		{Disk{Image: "/a,b/r.img", Bus: VirtioBus, Over: "/k,1/d"}, "-drive " +
			"if=none,id=disk,format=qcow2,file=/k,,1/d,backing.driver=raw,backing.file.driver=file," +
			"backing.file.filename=/a,,b/r.img,snapshot=on -device virtio-blk-pci,drive=disk"},
	} {
		want := append([]string{"qemu-system-x86_64"}, strings.Fields(c.want)...)
		if diff := cmp.Diff(want, Argv(arch.AMD64, c.device)); diff != "" {
			t.Errorf("%T: -want +got\n%s", c.device, diff)
		}
	}
	got := strings.Join(Argv(arch.AMD64, Verbatim{"-m", "64M"}, Memory(1<<30), Verbatim(nil)), " ")
	if got != "qemu-system-x86_64 -m 1024M -m 64M" {
		t.Errorf("the user's arguments do not come last: %s", got)
	}
	got = strings.Join(Argv(arch.AMD64, KVM, RNG{}), " ")
	if got != "qemu-system-x86_64 -accel kvm -device virtio-rng-pci" {
		t.Errorf("two devices: %s", got)
	}
}
