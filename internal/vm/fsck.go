package vm

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/kimg/kimg/internal/toolbox"
)

// DiskError says that a file system is not sound after a guest wrote to it.
type DiskError struct {
	Disk string
	Said []string // the last of what e2fsck said
}

func (e *DiskError) Error() string {
	return fmt.Sprintf("check %s: e2fsck found faults: %s", e.Disk, strings.Join(e.Said, "; "))
}

func (e *DiskError) Hint() string {
	return "e2fsck -f repairs what it can, and asks questions; kimg build makes a new image"
}

// How long a check of an image may take: usually, and after an interrupt.
const (
	fsckLimit   = 5 * time.Minute
	hurriedFsck = 30 * time.Second
)

// fsckArgs is e2fsck's command line. After a clean shutdown there is nothing to repair, and so nothing that may be
// written (-n). A guest whose plug was pulled leaves a journal: it is replayed, and what is safe to repair is (-p).
func fsckArgs(e2fsck, disk string, clean bool) []string {
	if clean {
		return []string{e2fsck, "-fn", disk}
	}
	return []string{e2fsck, "-fp", disk}
}

// checkDisk has e2fsck check the image that the guest wrote to. Faults that are left are a *DiskError.
func (o *Options) checkDisk(ctx context.Context, tools *toolbox.Tools, clean bool) error {
	e2fsck, err := tools.FindSystem("e2fsck")
	if err != nil {
		o.say("%s was not checked: %v", o.disk(), err)
		return nil
	}
	argv := fsckArgs(e2fsck, tools.Path(o.disk()), clean)
	said := &tail{}
	wait, err := tools.Start(ctx, toolbox.Program{Args: argv, Stdout: said, Stderr: said})
	if err == nil {
		err = wait()
	}
	status, ran := toolbox.ExitStatus(err)
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
