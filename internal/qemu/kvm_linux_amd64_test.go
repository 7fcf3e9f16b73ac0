package qemu

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/internal/arch"
)

// The answer depends on the machine; that it comes in time does not.
func TestProbeKVMEnds(t *testing.T) {
	begun := time.Now()
	err := ProbeKVM(arch.AMD64)
	if took := time.Since(begun); took > kvmLimit+2*time.Second {
		t.Errorf("the probe took %v", took)
	}
	if errors.Is(err, errNoKVM) {
		t.Skip(err)
	}
	t.Log(err)
}

func TestProbeKVMOfAnotherArchitecture(t *testing.T) {
	if err := ProbeKVM(arch.Arch{Name: "vax", OCI: "vax"}); err == nil || !strings.Contains(err.Error(), "vax") {
		t.Error(err)
	}
}
