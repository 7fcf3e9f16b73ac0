package qemu

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
