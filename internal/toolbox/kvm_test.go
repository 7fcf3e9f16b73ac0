package toolbox

import (
	"os/exec"
	"testing"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/qemu"
)

// TestProbeScripts runs the probes' code emulated: with another word it is what KVM runs.
func TestProbeScripts(t *testing.T) {
	for name, script := range probeScripts {
		t.Run(name, func(t *testing.T) {
			a, err := arch.Parse(name)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := exec.LookPath(a.QEMU); err != nil {
				t.Skip(err)
			}
			for accel, ends := range map[qemu.Accel]bool{qemu.TCG: true, "nosuch": false} {
				machine, cpu := qemu.TCG.MachineOf(a)
				said, err := exec.CommandContext(t.Context(), "sh", "-c", script, t.TempDir(), a.QEMU, machine, cpu,
					string(accel)).CombinedOutput()
				if (err == nil) != ends {
					t.Errorf("%s: %v\n%s", accel, err, said)
				}
			}
		})
	}
}
