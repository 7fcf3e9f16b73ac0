//go:build linux && (amd64 || arm64)

package qemu

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Numbers from <linux/kvm.h>.
const (
	kvmGetAPIVersion = 0xae00
	kvmCreateVM      = 0xae01
	kvmCreateVCPU    = 0xae41

	kvmAPIVersion = 12
)

// errNoKVM says that there is no device to probe.
var errNoKVM = errors.New("there is no /dev/kvm")

// probeKVM tries KVM in a virtual machine of its own, as far as tryKVM goes.
func probeKVM() error {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return errNoKVM
	}
	if err != nil {
		return err
	}
	defer f.Close()
	kvm := int(f.Fd())
	if v, err := ioctl(kvm, kvmGetAPIVersion, 0); err != nil || v != kvmAPIVersion {
		return fmt.Errorf("ask KVM for its version: %d, %w", v, orUnexpected(err))
	}
	vm, err := ioctl(kvm, kvmCreateVM, 0)
	if err != nil {
		return fmt.Errorf("create a KVM machine: %w", err)
	}
	defer unix.Close(vm)
	return tryKVM(kvm, vm)
}

func orUnexpected(err error) error {
	if err == nil {
		return fmt.Errorf("want %d", kvmAPIVersion)
	}
	return err
}

func ioctl(fd int, req, arg uintptr) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, arg)
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

func ioctlPtr(fd int, req uintptr, arg unsafe.Pointer) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, uintptr(arg))
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}
