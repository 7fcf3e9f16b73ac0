package toolbox

import "syscall"

// ownGroup keeps a terminal's Ctrl-C from the program: it is the guest's command
// that gets it. The program ends with kimg, even when kimg is killed.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
