//go:build !linux

package toolbox

import (
	"io"
	"syscall"
)

// ownGroup keeps a terminal's Ctrl-C from the program: it is the guest's command that gets it.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// memoryFile makes a file that is in memory only: there is none here.
func memoryFile() (name string, f io.Closer) { return "", nil }
