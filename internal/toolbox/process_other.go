//go:build !linux

package toolbox

import "syscall"

// ownGroup keeps a terminal's Ctrl-C from the program: it is the guest's command that gets it.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
