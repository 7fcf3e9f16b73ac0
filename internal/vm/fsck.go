package vm

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kimg/kimg/internal/form"
	"github.com/kimg/kimg/internal/toolbox"
)

// DiskError says that a file system is not sound after a guest wrote to it.
type DiskError struct {
	Disk string
	Fsck string   // the program that said so
	Said []string // the last of what it said
}

func (e *DiskError) Error() string {
	return fmt.Sprintf("check %s: %s found faults: %s", e.Disk, e.Fsck, strings.Join(e.Said, "; "))
}

func (e *DiskError) Hint() string {
	if e.Fsck != "e2fsck" {
		return "kimg build makes a new image"
	}
	return "e2fsck -f repairs what it can, and asks questions; kimg build makes a new image"
}

// How long a check of an image may take: usually, and after an interrupt.
const (
	fsckLimit   = 5 * time.Minute
	hurriedFsck = 30 * time.Second
)

// fsckArgs is the fsck's command line. After a clean shutdown there is nothing to repair, and so nothing that may be
// written. A guest whose plug was pulled leaves a journal: e2fsck replays it, and repairs what is safe to (-p); other
// file systems replay theirs when they are mounted, and there is nothing to check before (nil).
func fsckArgs(f form.Form, disk string, clean bool) []string {
	argv := append(slices.Clone(f.Fsck()), disk)
	switch {
	case clean:
		return argv
	case f == form.Ext4:
		return []string{argv[0], "-fp", disk}
	}
	return nil
}

// checkDisk has the image checked that the guest wrote to. Faults that are left are a *DiskError.
func (o *Options) checkDisk(ctx context.Context, tools *toolbox.Tools, clean bool) error {
	argv := fsckArgs(o.form, tools.Path(o.disk()), clean)
	if argv == nil {
		o.say("%s was not shut down: the next mount of its %s replays what it had written", o.disk(), o.form)
		return nil
	}
	fsck := argv[0]
	found, err := tools.FindSystem(fsck)
	if err != nil {
		o.say("%s was not checked: %v", o.disk(), err)
		return nil
	}
	argv[0] = found
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
		o.say("%s is sound (%s %s)", o.disk(), fsck, argv[1])
	case status == 1 && !clean: // repaired: e2fsck(8)
		o.say("%s was not shut down, and has been repaired (e2fsck %s)", o.disk(), argv[1])
	default:
		lines := said.lines()
		return &DiskError{Disk: o.disk(), Fsck: fsck, Said: lines[max(0, len(lines)-5):]}
	}
	return nil
}
