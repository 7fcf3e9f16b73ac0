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
	ended, told := map[string]string{}, map[string]string{}
	for line := range strings.Lines(string(said)) {
		var event struct {
			Action, Test, Output string
			Elapsed              float64
		}
		switch jsonErr := json.Unmarshal([]byte(line), &event); {
		case jsonErr != nil:
			t.Log(line) // of the command, not of a test
		case event.Action == "output":
			told[event.Test] += event.Output // "": of the package
		case event.Test != "" && slices.Contains([]string{"pass", "fail", "skip"}, event.Action):
			ended[event.Test] = event.Action
			t.Logf("%s %s in %.0f s", event.Test, event.Action, event.Elapsed)
		}
	}
	if err != nil {
		t.Errorf("%v\n%s", err, told[""])
	}
	for name, how := range ended {
		if how == "fail" {
			t.Errorf("%s", told[name])
		}
	}
	for _, name := range guestTests {
		if how := ended[name]; how != "pass" && (how != "skip" || !slices.Contains(mayBeSkipped, name)) {
			t.Errorf("%s: %q", name, how)
		}
	}
}
