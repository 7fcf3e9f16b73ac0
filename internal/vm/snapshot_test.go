package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/form"
	"github.com/kimg/kimg/internal/toolbox"
)

func TestSnapshots(t *testing.T) {
	dir := t.TempDir()
	base := filepath.Join(dir, artifact.Disk)
	f, err := os.Create(base)
	if err != nil {
		t.Fatal(err)
	}
	const size = 8 << 20
	f.WriteAt([]byte("begin"), 0)
	f.WriteAt([]byte("end"), size-3)
	f.Close()
	var said []string
	o := Options{Dir: dir, Snapshot: "one", Say: func(s string) { said = append(said, s) }}
	unlock, err := holdDisk(t.Context(), dir, o.Snapshot, o.say)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, o.disk())
	was, _ := os.ReadFile(base)
	if is, err := os.ReadFile(file); err != nil || !bytes.Equal(was, is) {
		t.Errorf("the snapshot is not the image: %v", err)
	}
	if _, err := holdDisk(t.Context(), dir, o.Snapshot, o.say); !errors.Is(err, ErrDiskInUse) {
		t.Errorf("a second guest: %v", err)
	}
	if err := DropSnapshot(dir, "one"); !errors.Is(err, ErrDiskInUse) {
		t.Errorf("dropped under a guest: %v", err)
	}
	unlock()

	// What was written stays, whatever becomes of the image it was taken of.
	if err := os.WriteFile(file, []byte("written"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(base, time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	said = nil
	if unlock, err = holdDisk(t.Context(), dir, o.Snapshot, o.say); err != nil {
		t.Fatal(err)
	}
	unlock()
	if is, _ := os.ReadFile(file); string(is) != "written" || len(said) != 1 {
		t.Errorf("the snapshot is %q, and %q was said", is, said)
	}
	list, err := Snapshots(dir)
	if err != nil || len(list) != 1 || list[0].Name != "one" || !list[0].Stale {
		t.Errorf("listed %+v, %v", list, err)
	}
	var none *NoSnapshotError
	if err := DropSnapshot(dir, "two"); !errors.As(err, &none) || none.Hint() != "there is one" {
		t.Errorf("dropped what is not there: %v", err)
	}
	if err := DropSnapshot(dir, "one"); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("%v is left", left)
	}
	for _, name := range []string{"", "..", "a/b", "-x", "a b"} {
		if CheckSnapshotName(name) == nil || DropSnapshot(dir, name) == nil {
			t.Errorf("%q is taken for a name", name)
		}
	}
}

func TestFsckArgs(t *testing.T) {
	for _, c := range []struct {
		of    form.Form
		clean bool
		want  string
	}{
		{form.Ext4, true, "e2fsck -fn /d"}, {form.Ext4, false, "e2fsck -fp /d"}, {form.Ext4, true, "e2fsck -fn /d"},
		{form.Btrfs, true, "btrfs check --readonly /d"}, {form.Btrfs, false, ""}, {form.XFS, true, "xfs_repair -n /d"},
		{form.F2FS, true, "fsck.f2fs --dry-run /d"},
	} {
		if got := strings.Join(fsckArgs(c.of, "/d", c.clean), " "); got != c.want {
			t.Errorf("%s, shut down %v: %q, want %q", c.of, c.clean, got, c.want)
		}
	}
}

// nowhere is a toolbox that does not open.
type nowhere struct{}

var errNowhere = errors.New("nowhere")

func (nowhere) QEMU() (file, image string) { return "", "" }

func (nowhere) Open(context.Context, toolbox.Mounts) (*toolbox.Tools, error) { return nil, errNowhere }

// Of two guests that write to one image the second fails; one that does not come
// to be lets go of it.
func TestOneWriterAtATime(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, artifact.Disk), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	o := Options{Dir: dir, Write: true, Toolbox: nowhere{}}
	if _, err := o.prepare(t.Context(), nil, nil); !errors.Is(err, errNowhere) {
		t.Error(err)
	}
	unlock, err := holdDisk(t.Context(), dir, o.Snapshot, o.say)
	if err != nil {
		t.Fatalf("it is still held: %v", err)
	}
	if _, err := o.prepare(t.Context(), nil, nil); !errors.Is(err, ErrDiskInUse) {
		t.Errorf("a second guest: %v", err)
	}
	reads := Options{Dir: dir, Toolbox: nowhere{}}
	if _, err := reads.prepare(t.Context(), nil, nil); !errors.Is(err, ErrDiskInUse) {
		t.Errorf("a guest that reads beside it: %v", err)
	}
	unlock()

	// Of those that read there may be many, and snapshots be taken.
	for range 2 {
		unlock, err := shareDisk(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer unlock()
	}
	if _, err := o.prepare(t.Context(), nil, nil); !errors.Is(err, ErrDiskInUse) {
		t.Errorf("a guest that writes beside them: %v", err)
	}
	if _, err := reads.prepare(t.Context(), nil, nil); !errors.Is(err, errNowhere) {
		t.Errorf("a third one that reads: %v", err)
	}
	var snapshots errgroup.Group
	for i := range 8 {
		snapshots.Go(func() error {
			one := Options{Dir: dir, Snapshot: fmt.Sprint("s", i/2), Toolbox: nowhere{}}
			if _, err := one.prepare(t.Context(), nil, nil); !errors.Is(err, errNowhere) &&
				!errors.Is(err, ErrDiskInUse) {
				return err
			}
			return nil
		})
	}
	if err := snapshots.Wait(); err != nil {
		t.Error(err)
	}
	if list, err := Snapshots(dir); len(list) != 4 || err != nil {
		t.Errorf("%+v, %v", list, err)
	}
}

// A snapshot that another kimg has taken meanwhile is not taken again: its guest may
// run on it already.
func TestSnapshotIsTakenOnce(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, artifact.Disk), []byte("image"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := takeSnapshot(t.Context(), dir, "one"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, SnapshotFile("one"))
	if err := os.WriteFile(file, []byte("written"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := takeSnapshot(t.Context(), dir, "one"); err != nil {
		t.Fatal(err)
	}
	if is, _ := os.ReadFile(file); string(is) != "written" {
		t.Errorf("it is %q", is)
	}
}
