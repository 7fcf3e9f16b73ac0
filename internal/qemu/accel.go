package qemu

import (
	"fmt"
	"runtime"

	"github.com/kimg/kimg/internal/arch"
)

// Accel is what executes the guest's instructions.
type Accel string

// The accelerators.
const (
	KVM Accel = "kvm" // the processor
	TCG Accel = "tcg" // QEMU's translator: everywhere, some ten times slower
)

// Args implements Device.
func (a Accel) Args() []string {
	if a == TCG {
		return []string{"-accel", "tcg,thread=multi"}
	}
	return []string{"-accel", string(a)}
}

// ProbeKVM returns why this machine's KVM cannot run guests of an architecture, or nil. It runs code in a virtual
// machine of its own: there are machines where /dev/kvm exists and can be opened, and no guest runs on it.
func ProbeKVM(a arch.Arch) error {
	if a.OCI != runtime.GOARCH {
		return fmt.Errorf("this machine is %s, the guest %s", runtime.GOARCH, a)
	}
	return probeKVM()
}
