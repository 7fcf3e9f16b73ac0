package container

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// kernelIDs identifies this boot, and this namespace of process numbers. Source: proc_sys_kernel(5), namespaces(7).
func kernelIDs() (boot, space string) {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	boot, _, _ = strings.Cut(strings.TrimSpace(string(b)), "-")
	link, _ := os.Readlink("/proc/self/ns/pid")
	return boot, strings.Trim(link, "pid:[]")
}

// processStart returns the time pid began, in clock ticks since boot: field 22
// of /proc/PID/stat, proc_pid_stat(5). A zombie counts as ended.
func processStart(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// The second field is the command's name in parentheses and may hold anything.
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 20 {
		return "", fmt.Errorf("read start of process %d: no such field", pid)
	}
	if f[0] == "Z" || f[0] == "X" {
		return "", fmt.Errorf("read start of process %d: %w", pid, os.ErrProcessDone)
	}
	return f[19], nil
}

// alive reports whether the process that began at start still runs. A process that
// /proc hides from this user (hidepid) counts as running while its number does.
func alive(pid int, start string) bool {
	if s, err := processStart(pid); err == nil {
		return s == start
	} else if os.IsNotExist(err) || os.IsPermission(err) {
		return syscall.Kill(pid, 0) == syscall.EPERM
	}
	return false
}

// apart keeps a helper process out of the terminal's Ctrl-C, which would end the way to the engine before what runs
// there has been removed, and ends it with this process.
func apart(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
}
