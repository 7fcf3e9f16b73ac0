package toolbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/qemu"
)

const kvmDevice = "/dev/kvm"

// addKVM gives the container the KVM device, for a probe inside, or returns why KVM cannot be used: what this
// process may do with the device says little about what one in the container may. But where KVM is too slow to use,
// this machine's probe says so at once, and the one inside after seconds.
func addKVM(cmd *container.Cmd, a arch.Arch, local bool) string {
	if probeScripts[a.Name] == "" {
		return "kimg knows no probe of KVM for " + a.Name
	}
	if local {
		err := qemu.ProbeKVM(a)
		if err != nil && !errors.Is(err, fs.ErrPermission) {
			return err.Error()
		}
		if gid, ok := groupOf(kvmDevice); ok && !strings.HasPrefix(cmd.User, "0:") {
			user, _, _ := strings.Cut(cmd.User, ":")
			cmd.User = fmt.Sprintf("%s:%d", user, gid)
		}
	}
	cmd.Devices = []string{kvmDevice}
	return ""
}

// probeScripts run code on QEMU, as a BIOS, that has it end; they succeed where it does so in time. $0 is a directory,
// $1 QEMU, $2 its machine, $3 its CPU and $4 its accelerator.
//
// amd64's counts down from 20 million, as qemu.ProbeKVM does, and writes 16 to the exit device: QEMU ends with 16*2+1.
// The code is at 0xff00, and at the reset vector, 0xfff0, a jump to it. arm64's powers the machine off by PSCI
// (SYSTEM_OFF, 0x84000008): movz w0, #8; movk w0, #0x8400, lsl #16; hvc #0; b .
var probeScripts = map[string]string{
	arch.AMD64.Name: `bios=$0/probe.bin
{
	head -c 65280 /dev/zero
	printf '\146\271\000\055\061\001\146\111\165\374\272\001\005\260\020\356\364'
	head -c 223 /dev/zero
	printf '\351\015\377'
	head -c 13 /dev/zero
} >"$bios" &&
timeout 5 "$1" -accel "$4" -cpu "$3" -M "$2" -no-user-config -nodefaults -display none \
	-bios "$bios" -device isa-debug-exit,iobase=0x501,iosize=1
[ $? = 33 ]`,
	arch.ARM64.Name: `bios=$0/probe.bin
printf '\000\001\200\122\000\200\260\162\002\000\000\324\000\000\000\024' >"$bios" &&
timeout 5 "$1" -accel "$4" -cpu "$3" -M "$2" -no-user-config -nodefaults -display none -bios "$bios"`,
}

// probeInside returns why KVM cannot be used in the container; empty where it can.
func probeInside(ctx context.Context, sandbox container.Container, a arch.Arch, dir string) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var said strings.Builder
	machine, cpu := qemu.KVM.MachineOf(a)
	args := []string{"sh", "-c", probeScripts[a.Name], dir, a.QEMU, machine, cpu, string(qemu.KVM)}
	err := sandbox.Exec(ctx, &container.ExecCmd{Args: args, Stderr: &said})
	if err == nil {
		return ""
	}
	line, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n")
	if line == "" {
		line = "an instruction did not run on KVM in the container"
	}
	return line
}
