//go:build !linux

package container

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

func kernelIDs() (boot, space string) { return "", "" }

func processStart(int) (string, error) { return "", nil }

// alive reports whether a process with this number runs: its start is not known here.
func alive(pid int, _ string) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer p.Release()
	if runtime.GOOS == "windows" {
		return true // FindProcess opened it
	}
	err = p.Signal(syscall.Signal(0))
	return err == nil || os.IsPermission(err)
}

// apart is not possible in the same way everywhere: a Ctrl-C may end ssh with this process.
func apart(*exec.Cmd) {}
