package qemu

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Numbers from <linux/kvm.h> of arm64; struct kvm_vcpu_init is a target and seven words of features.
const (
	kvmARMPreferredTarget = 0x8020aeaf
	kvmARMVCPUInit        = 0x4020aeae
)

// tryKVM makes a processor as the machine has them. It runs nothing: on arm64 no KVM interprets instructions.
func tryKVM(_, vm int) error {
	var init [8]uint32
	if _, err := ioctlPtr(vm, kvmARMPreferredTarget, unsafe.Pointer(&init)); err != nil {
		return fmt.Errorf("ask KVM for its processor: %w", err)
	}
	vcpu, err := ioctl(vm, kvmCreateVCPU, 0)
	if err != nil {
		return fmt.Errorf("create a KVM processor: %w", err)
	}
	defer unix.Close(vcpu)
	if _, err := ioctlPtr(vcpu, kvmARMVCPUInit, unsafe.Pointer(&init)); err != nil {
		return fmt.Errorf("set up a KVM processor: %w", err)
	}
	return nil
}
