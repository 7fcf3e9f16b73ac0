//go:build !linux || !amd64

package qemu

import "errors"

func probeKVM() error { return errors.New("KVM is only used on x86-64 Linux") }
