package container

import (
	"os/exec"
	"runtime"
	"testing"
)

func TestOwnerGone(t *testing.T) {
	me := owner{host: "h", boot: "b", space: "s", pid: 1, start: "5"}
	dead := func(int, string) bool { return false }
	live := func(pid int, start string) bool { return pid == 7 && start == "9" }
	for _, test := range []struct {
		name  string
		owner string
		local bool
		alive func(int, string) bool
		want  bool
	}{
		{"ended", "h:b:s:7:9", true, dead, true},
		{"ended, on a remote engine", "h:b:s:7:9", false, dead, true},
		{"running", "h:b:s:7:9", true, live, false},
		{"its number was given to another", "h:b:s:7:8", true, live, true},
		{"another machine", "other:b:s:7:9", true, dead, false},
		{"before the last boot", "h:x:s:7:9", true, live, true},
		{"another machine of that name, on a remote engine", "h:x:s:7:9", false, dead, false},
		{"another container on this machine", "h:b:x:7:9", true, dead, false},
	} {
		o, ok := parseOwner(test.owner)
		if !ok || o.String() != test.owner {
			t.Errorf("%s: %q became %q", test.name, test.owner, o)
		}
		if got := o.gone(me, test.local, test.alive); got != test.want {
			t.Errorf("%s: gone = %t", test.name, got)
		}
	}
	for _, bad := range []string{"", "h:1:2", "h:b:s:x:9", "h:b:s:0:9", "h:b:s:7:9:1"} {
		if _, ok := parseOwner(bad); ok {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestAlive(t *testing.T) {
	me := self()
	if !alive(me.pid, me.start) {
		t.Error("this process counts as gone")
	}
	if runtime.GOOS == "linux" && alive(me.pid, me.start+"1") {
		t.Error("a process with another start counts as this one")
	}
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	start, err := processStart(cmd.Process.Pid)
	if err != nil || !alive(cmd.Process.Pid, start) {
		t.Errorf("a child counts as gone: %v", err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if alive(cmd.Process.Pid, start) {
		t.Error("a child that has ended counts as running")
	}
}
