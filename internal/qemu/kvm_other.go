//go:build !linux || (!amd64 && !arm64)

package qemu

import "errors"

func probeKVM() error { return errors.New("KVM is only used on Linux, on x86-64 and arm64") }
