package toolbox

import (
	"errors"
	"os/exec"
	"syscall"

	"github.com/kimg/kimg/container"
)

// ExitStatus is the status that a program ended with, by the error of its wait; ran is
// false where it did not come to that.
func ExitStatus(err error) (status int, ran bool) {
	var onHost *exec.ExitError
	var inContainer *container.ExitError
	switch {
	case err == nil:
		return 0, true
	case errors.As(err, &onHost):
		return onHost.ExitCode(), onHost.Exited()
	case errors.As(err, &inContainer):
		return inContainer.Code, true
	}
	return 0, false
}

// WasKilled says whether a program was ended by a SIGKILL, which kimg itself only sends
// when it no longer looks at the error.
func WasKilled(err error) bool {
	var onHost *exec.ExitError
	if errors.As(err, &onHost) {
		status, ok := onHost.Sys().(syscall.WaitStatus)
		return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
	}
	status, ran := ExitStatus(err)
	return ran && status == 128+int(syscall.SIGKILL)
}
