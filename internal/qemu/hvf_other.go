//go:build !darwin

package qemu

// Own is the accelerator that this machine's processor may run guests with.
const Own = KVM

func probeOwn() error { return probedKVM() }
