package vm

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/kimg/kimg/container"
)

// DiskError says that a file system is not sound after a guest wrote to it.
type DiskError struct {
	Disk string
	Said []string // the last of what e2fsck said
}

func (e *DiskError) Error() string {
	return fmt.Sprintf("check %s: e2fsck found faults: %s", e.Disk, strings.Join(e.Said, "; "))
}

// Hint is the way out.
func (e *DiskError) Hint() string {
	return "e2fsck -f repairs what it can, with questions; kimg build makes the image anew"
}

// The bounds of a check of an image: usually, and where the person wants it to end.
const (
	fsckLimit   = 5 * time.Minute
	hurriedFsck = 30 * time.Second
)

// fsckArgs is e2fsck's command line. After a clean shutdown there is nothing to
// repair, and so nothing that may be written (-n). A guest whose plug was pulled
// leaves a journal: it is replayed, and what is safe to repair is (-p).
func fsckArgs(e2fsck, disk string, clean bool) []string {
	if clean {
		return []string{e2fsck, "-fn", disk}
	}
	return []string{e2fsck, "-fp", disk}
}

// checkDisk has e2fsck look at the image that the guest has written to, and tells
// what it found. Faults that are left are a *DiskError. No guest has the image any more.
func (o *Options) checkDisk(ctx context.Context, site *Site, clean bool) error {
	tool := "e2fsck"
	if !site.Isolated {
		var err error
		if tool, err = findSystemTool(tool); err != nil {
			o.say("%s was not checked: %v", o.disk(), err)
			return nil
		}
	}
	argv := fsckArgs(tool, site.Path(o.disk()), clean)
	said := &tail{}
	wait, err := site.run.start(ctx, program{Args: argv, Stdout: said, Stderr: said})
	if err == nil {
		err = wait()
	}
	status, ran := exitStatus(err)
	switch {
	case !ran:
		return fmt.Errorf("check %s: %w", o.disk(), err)
	case status == 0:
		o.say("%s is sound (e2fsck %s)", o.disk(), argv[1])
	case status == 1 && !clean: // repaired: e2fsck(8)
		o.say("%s was not shut down, and has been repaired (e2fsck %s)", o.disk(), argv[1])
	default:
		lines := said.lines()
		return &DiskError{Disk: o.disk(), Said: lines[max(0, len(lines)-5):]}
	}
	return nil
}

// exitStatus is the status that a program at a site ended with; ran is false where
// it did not come to that.
func exitStatus(err error) (status int, ran bool) {
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

// wasKilled says whether a program at a site was ended by a SIGKILL, which kimg itself
// only sends when it no longer asks.
func wasKilled(err error) bool {
	var onHost *exec.ExitError
	if errors.As(err, &onHost) {
		status, ok := onHost.Sys().(syscall.WaitStatus)
		return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
	}
	status, ran := exitStatus(err)
	return ran && status == 128+int(syscall.SIGKILL)
}

// findSystemTool looks where an ordinary user's PATH does not, too.
func findSystemTool(name string) (string, error) {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if err == nil {
			break
		}
		if there, bad := exec.LookPath(dir + name); bad == nil {
			path, err = there, nil
		}
	}
	return path, err
}
