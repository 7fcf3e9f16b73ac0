// Package taptest gives tests a network of their own, to make TAPs in.
package taptest

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// OwnNetwork gives the test's thread, which ends with the test, a network of its own.
func OwnNetwork(t *testing.T) {
	t.Helper()
	lack := t.Skipf
	if os.Getenv("CI") == "true" {
		lack = t.Fatalf
	}
	if _, err := exec.LookPath("ip"); err != nil {
		lack("a TAP is made by iproute2's ip, which is missing: %v", err)
	}
	if os.Geteuid() != 0 {
		lack("a network namespace is root's")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		lack("no TAPs here: %v", err)
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		lack("make a network namespace: %v", err)
	}
}

// IP runs iproute2's ip in the test's network.
func IP(t *testing.T, line string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", line, err, out)
	}
}
