package builder

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kimg/kimg/image/export"
	"github.com/kimg/kimg/internal/artifact"
)

func TestExportWaitsForNoGuest(t *testing.T) {
	env, out := builtDir(t)
	guest, err := os.Open(filepath.Join(out, artifact.Disk))
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()
	lock := func(typ int16, at int64) {
		t.Helper()
		if err := unix.FcntlFlock(guest.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: typ, Start: at,
			Len: 1}); err != nil {
			t.Skipf("this file system has no locks: %v", err)
		}
	}
	do := func(text bool) error {
		kind := kindOf(func(context.Context, *export.Build, io.Writer) error { return nil })
		kind.Text = text
		return Export(t.Context(), env, ExportRequest{Out: out, File: filepath.Join(t.TempDir(), "f"), Format: kind})
	}
	const reads, qemuWrites = 100, 101 // of RAW_LOCK_PERM_BASE: BLK_PERM_CONSISTENT_READ, BLK_PERM_WRITE
	lock(unix.F_RDLCK, reads)
	if err := do(false); err != nil {
		t.Errorf("a guest that only reads: %v", err)
	}
	lock(unix.F_RDLCK, qemuWrites)
	var busy *InUseError
	if err := do(false); !errors.As(err, &busy) {
		t.Errorf("a guest that writes: %v", err)
	}
	if err := do(true); err != nil {
		t.Errorf("a format that does not read the image: %v", err)
	}
	lock(unix.F_UNLCK, qemuWrites)
	if err := do(false); err != nil {
		t.Errorf("after the guest: %v", err)
	}
}
