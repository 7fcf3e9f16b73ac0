package qemu

import (
	"errors"
	"testing"
	"time"
)

// What the answer is depends on the machine; that there is one in time does not.
func TestProbeKVMEnds(t *testing.T) {
	begun := time.Now()
	err := ProbeKVM()
	if took := time.Since(begun); took > kvmLimit+2*time.Second {
		t.Errorf("the probe took %v", took)
	}
	if errors.Is(err, errNoKVM) {
		t.Skip(err)
	}
	t.Log(err)
}
