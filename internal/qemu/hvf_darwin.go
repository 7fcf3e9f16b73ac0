package qemu

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Own is the accelerator that this machine's processor may run guests with.
const Own = HVF

// probeOwn asks whether there is Apple's Hypervisor.framework, as its documentation has it.
func probeOwn() error {
	v, err := unix.SysctlUint32("kern.hv_support")
	if err != nil {
		return fmt.Errorf("ask for Hypervisor.framework: %w", err)
	}
	if v != 1 {
		return errors.New("this processor, or virtual machine, has no Hypervisor.framework")
	}
	return nil
}
