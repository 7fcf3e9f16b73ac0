//go:build !linux

package vm

import "errors"

var errNoKVM = errors.New("KVM is Linux's")

// probeKVM says why KVM cannot be used.
func probeKVM() error { return errNoKVM }
