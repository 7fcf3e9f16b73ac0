//go:build !linux

package qemu

import "errors"

var errNoKVM = errors.New("KVM is Linux's")

// ProbeKVM says why KVM cannot be used.
func ProbeKVM() error { return errNoKVM }
