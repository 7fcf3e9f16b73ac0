package guest

import (
	"os/exec"
	"strings"
	"testing"
)

func TestRecordedImage(t *testing.T) {
	disk, err := Recorded{Disk: "/dev/vdb", Serial: "/dev/ttyAMA0", Frames: "/dev/ttyAMA1",
		Script: "exec 'uname'\n", Direct: true, UserNet: true}.Image()
	if err != nil {
		t.Fatal(err)
	}
	if len(disk) == 0 || len(disk)%ScriptBlock != 0 {
		t.Errorf("it has %d bytes", len(disk))
	}
	text := string(disk)
	if strings.Contains(text, "\nserve\n") || strings.Contains(text, agentMain) {
		t.Error("it has the agent's main part too")
	}
	if !strings.Contains(text, "\ndisk=/dev/vdb serial=/dev/ttyAMA0 frames=/dev/ttyAMA1 direct=1 user_net=1 console=\n"+
		"command=ZXhlYyAndW5hbWUnCg==\n") {
		t.Error("it lacks its settings")
	}
	if strings.Contains(string(recorded), "ttyS") {
		t.Error("it goes to an architecture's port, whichever the guest has")
	}
	for _, name := range []string{"mount_all", "network_up"} {
		if !strings.Contains(text, "\n"+name+"() {") {
			t.Errorf("the agent has no %s any more", name)
		}
	}
	check := exec.Command("sh", "-n")
	check.Stdin = strings.NewReader(text)
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("no shell takes it: %v\n%s", err, out)
	}
}
