//go:build linux

package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// guestTests are those tests of real guests, in internal/vm and its replay, that prove what the
// other parts of the story do not: shares, snapshots, networks, ssh, gdb's prompt.
var guestTests = []string{
	"TestGuestShares", "TestGuestDirectSession", "TestGuestSnapshot", "TestGuestForward", "TestGuestOnTAP",
	"TestGuestSSH", "TestDebugSession", "TestDebugIndex", "TestCheckWhileACommandRuns", "TestDebugWithoutSystemd",
	"TestGuestSnapshotAfterAFault", "TestGuestsGoOn", "TestConsoleGoesOn", "TestSSHGoesOn",
	"TestDebugGoesOn", "TestForwardGoesOn", "TestNothingIsRepeated", "TestMemoryIsShared", "TestKeepingIsKilled",
	"TestGuestRecorded", "TestGuestPanics", "TestGuestAtLimit",
	"TestGuestDiverges", "TestGuestKilled", "TestGuestWhy",
}

// mayBeSkipped are those that need more of the machine than an engine, or less: QEMU
// and gdb in a container.
var mayBeSkipped = []string{"TestGuestOnTAP", "TestDebugIndex", "TestMemoryIsShared"}

// guests runs them on the build in out, with the tools that kimg would take. An emulated guest has one processor's
// work, so two packages run side by side.
func guests(t *testing.T, k kimg, out string) {
	lock, err := os.ReadFile(filepath.Join(out, "kimg.lock"))
	if err != nil {
		t.Fatal(err)
	}
	image := regexp.MustCompile(`kimg-toolchain:imaging-[0-9a-f]+`).FindString(string(lock))
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-p=2", "-json", "-timeout=40m",
		"-run=^("+strings.Join(guestTests, "|")+")$", "github.com/kimg/kimg/internal/vm",
		"github.com/kimg/kimg/internal/vm/replay", "github.com/kimg/kimg/internal/vm/why")
	cmd.Env = k.env
	cmd.Env = append(cmd.Environ(), "KIMG_TEST_OUT="+out, "KIMG_TEST_IMAGING="+image)
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, said)
	}
	ended := map[string]string{}
	for line := range strings.Lines(string(said)) {
		var event struct {
			Action, Test string
			Elapsed      float64
		}
		if json.Unmarshal([]byte(line), &event) == nil && slices.Contains([]string{"pass", "fail", "skip"},
			event.Action) && event.Test != "" {
			ended[event.Test] = event.Action
			t.Logf("%s %s in %.0f s", event.Test, event.Action, event.Elapsed)
		}
	}
	for _, name := range guestTests {
		if how := ended[name]; how != "pass" && (how != "skip" || !slices.Contains(mayBeSkipped, name)) {
			t.Errorf("%s: %q", name, how)
		}
	}
}
