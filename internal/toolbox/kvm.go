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
	if a != arch.AMD64 {
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

// probeScript runs QEMU on KVM with a BIOS that counts down from 20 million, as qemu.ProbeKVM does, and writes 16
// to the exit device: QEMU ends with 16*2+1. The code is at 0xff00, and at the reset vector, 0xfff0, a jump to it.
// It is the x86 probe; $0 is a directory, $1 QEMU, $2 its machine and $3 its CPU.
const probeScript = `bios=$0/probe.bin
{
	head -c 65280 /dev/zero
	printf '\146\271\000\055\061\001\146\111\165\374\272\001\005\260\020\356\364'
	head -c 223 /dev/zero
	printf '\351\015\377'
	head -c 13 /dev/zero
} >"$bios" &&
timeout 5 "$1" -accel kvm -cpu "$3" -M "$2" -no-user-config -nodefaults -display none \
	-bios "$bios" -device isa-debug-exit,iobase=0x501,iosize=1
[ $? = 33 ]`

// probeInside returns why KVM cannot be used in the container; empty where it can.
func probeInside(ctx context.Context, sandbox container.Container, a arch.Arch, dir string) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var said strings.Builder
	args := []string{"sh", "-c", probeScript, dir, a.QEMU, a.Machine, a.CPU}
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
