package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/filelock"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/sparse"
)

// A snapshot is a whole, sparse copy of rootfs.img, below the out directory. An overlay
// would be smaller, but invalid once a build replaces the image below it.
const (
	snapshotDir    = "snapshots"
	snapshotSuffix = ".img"
	originSuffix   = ".json"
)

// CheckSnapshotName is an error for what cannot be a snapshot's name.
func CheckSnapshotName(name string) error { return reading.CheckName(name, 64) }

// SnapshotFile is where the snapshot of a name is in the out directory.
func SnapshotFile(name string) string { return snapshotDir + "/" + name + snapshotSuffix }

// origin is what a snapshot was copied from.
type origin struct {
	Size  int64     `json:"size"`  // bytes
	MTime time.Time `json:"mtime"` // of rootfs.img
}

func (o origin) is(other origin) bool { return o.Size == other.Size && o.MTime.Equal(other.MTime) }

func originOf(info fs.FileInfo) origin { return origin{Size: info.Size(), MTime: info.ModTime().UTC()} }

// Snapshot is a snapshot of an out directory.
type Snapshot struct {
	Name    string
	Changed time.Time // when a guest last wrote to it
	Stale   bool      // rootfs.img has been replaced since it was taken
}

// Snapshots lists those of an out directory, by name.
func Snapshots(dir string) ([]Snapshot, error) {
	entries, err := os.ReadDir(filepath.Join(dir, snapshotDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	var list []Snapshot
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), snapshotSuffix)
		if !ok || CheckSnapshotName(name) != nil {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // it has just been dropped
		}
		list = append(list, Snapshot{Name: name, Changed: info.ModTime(), Stale: isStale(dir, name)})
	}
	return list, nil
}

// isStale says whether the snapshot is known to be of another rootfs.img.
func isStale(dir, name string) bool {
	var was origin
	b, err := reading.Small(filepath.Join(dir, snapshotDir, name+originSuffix), 64<<10)
	if err != nil || json.Unmarshal(b, &was) != nil {
		return false
	}
	base, err := os.Stat(filepath.Join(dir, artifact.Disk))
	return err != nil || !was.is(originOf(base))
}

// NoSnapshotError says that there is no snapshot of a name.
type NoSnapshotError struct {
	Name string
	Have []string
}

func (e *NoSnapshotError) Error() string {
	return fmt.Sprintf("drop snapshot %s: there is none", e.Name)
}

func (e *NoSnapshotError) Hint() string {
	if len(e.Have) == 0 {
		return "kimg run --snapshot NAME makes one"
	}
	return "there is " + strings.Join(e.Have, ", ")
}

// DropSnapshot removes a snapshot that no guest uses.
func DropSnapshot(dir, name string) error {
	if err := CheckSnapshotName(name); err != nil {
		return err
	}
	file := filepath.Join(dir, SnapshotFile(name))
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		list, _ := Snapshots(dir)
		var have []string
		for _, s := range list {
			have = append(have, s.Name)
		}
		return &NoSnapshotError{Name: name, Have: have}
	}
	unlock, err := holdImage(file)
	if err != nil {
		return fmt.Errorf("drop snapshot %s: %w", name, err)
	}
	defer unlock()
	err = os.Remove(file)
	if bad := os.Remove(filepath.Join(dir, snapshotDir, name+originSuffix)); !errors.Is(bad, fs.ErrNotExist) {
		err = errors.Join(err, bad)
	}
	if err != nil {
		return fmt.Errorf("drop snapshot %s: %w", name, err)
	}
	_ = os.Remove(filepath.Join(dir, snapshotDir)) // it may not be empty
	return nil
}

// ErrDiskInUse says that another guest uses the image, and one of the two writes to it.
var ErrDiskInUse error = diskInUse{}

type diskInUse struct{}

func (diskInUse) Error() string { return "another guest uses it" }

func (diskInUse) Hint() string {
	return "end the other guest; one that writes to a snapshot of its own, with --snapshot NAME, can run beside it"
}

// ShareDisk keeps guests from writing to rootfs.img until unlock, where there are locks.
func ShareDisk(dir string) (unlock func(), err error) { return shareDisk(dir) }

// shareDisk keeps other guests from writing to rootfs.img while this one reads it, where there are locks.
func shareDisk(dir string) (unlock func(), err error) {
	unlock, err = shareImage(filepath.Join(dir, artifact.Disk))
	switch {
	case errors.Is(err, ErrDiskInUse):
		return nil, fmt.Errorf("read %s: %w", artifact.Disk, err)
	case err != nil:
		return func() {}, nil
	}
	return unlock, nil
}

// holdDisk locks the image, or snapshot (made if missing), that the guest will write to for this process alone.
func holdDisk(
	ctx context.Context, dir, snapshot string, say func(string, ...any),
) (unlock func(), err error) {
	if snapshot == "" {
		if unlock, err = holdImage(filepath.Join(dir, artifact.Disk)); err != nil {
			return nil, fmt.Errorf("write to %s: %w", artifact.Disk, err)
		}
		return unlock, nil
	}
	if err := CheckSnapshotName(snapshot); err != nil {
		return nil, fmt.Errorf("snapshot %w", err)
	}
	file := filepath.Join(dir, SnapshotFile(snapshot))
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		say("a new snapshot, %s, of %s", snapshot, artifact.Disk)
		if err := takeSnapshot(ctx, dir, snapshot); err != nil {
			return nil, fmt.Errorf("take snapshot %s: %w", snapshot, err)
		}
	} else if isStale(dir, snapshot) {
		say("snapshot %s was taken of an earlier %s, and goes on with the files of that", snapshot, artifact.Disk)
	}
	if unlock, err = holdImage(file); err != nil {
		return nil, fmt.Errorf("use snapshot %s: %w", snapshot, err)
	}
	return unlock, nil
}

// holdImage locks an image for this process alone. QEMU's own lock would fail later, with a message of its own.
func holdImage(file string) (unlock func(), err error) {
	return lockImage(file, (*flock.Flock).TryLock)
}

// shareImage locks an image together with others that only read it.
func shareImage(file string) (unlock func(), err error) {
	return lockImage(file, (*flock.Flock).TryRLock)
}

func lockImage(file string, try func(*flock.Flock) (bool, error)) (unlock func(), err error) {
	l := flock.New(file, flock.SetFlag(os.O_RDONLY))
	ok, err := try(l)
	if err == nil && !ok {
		err = ErrDiskInUse
	}
	if err != nil {
		return nil, err
	}
	return func() { _ = l.Unlock() }, nil
}

// takeSnapshot copies rootfs.img, while no guest writes to it, unless another kimg has done so meanwhile.
func takeSnapshot(ctx context.Context, dir, name string) (err error) {
	unlock, err := shareImage(filepath.Join(dir, artifact.Disk))
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.MkdirAll(filepath.Join(dir, snapshotDir), 0o755); err != nil {
		return err
	}
	// One at a time: a second copy would replace the first one while a guest uses it.
	turn := flock.New(filepath.Join(dir, snapshotDir), flock.SetFlag(os.O_RDONLY))
	if _, err := turn.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		return err
	}
	defer func() { _ = turn.Unlock() }()
	if _, err := os.Stat(filepath.Join(dir, SnapshotFile(name))); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	from, err := os.Open(filepath.Join(dir, artifact.Disk))
	if err != nil {
		return err
	}
	defer from.Close()
	info, err := from.Stat()
	if err != nil {
		return err
	}
	to, err := filelock.Replace(filepath.Join(dir, SnapshotFile(name)), renameio.WithPermissions(0o644))
	if err != nil {
		return err
	}
	defer func() {
		if bad := to.Cleanup(); bad != nil {
			err = errors.Join(err, bad)
		}
	}()
	if err := sparse.CopyFile(ctx, to.File, from, info.Size()); err != nil {
		return err
	}
	b, err := json.Marshal(originOf(info))
	if err == nil {
		err = renameio.WriteFile(filepath.Join(dir, snapshotDir, name+originSuffix), append(b, '\n'), 0o644)
	}
	if err != nil {
		return err
	}
	return to.CloseAtomicallyReplace()
}
