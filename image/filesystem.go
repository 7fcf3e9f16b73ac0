package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/form"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/sparse"
)

// fileSystem is how a file system is made from a tree by its own tools, in a container.
type fileSystem struct {
	// script makes disk.img of the tar on its stdin. It gets, in this order, the label, the UUID, the epoch in seconds,
	// the size in bytes (0: as it comes out) and the root's own time.
	script string
	check  []string // its own fsck: fails where disk.img is not sound
}

// fileSystems are all but ext4.
var fileSystems = map[Form]fileSystem{
	form.Squashfs: {
		// The tar is read in its order and compressed by all processors, and the result is the same.
		script: `exec sqfstar -quiet -no-progress -comp zstd -mkfs-time "$3" -root-mode 0755 -root-uid 0 -root-gid 0 \
	-root-time "$5" disk.img`,
		check: []string{"sh", "-c", "exec unsquashfs -lls disk.img >/dev/null"},
	},
	form.EROFS: {
		script: `cat >tree.tar
mkfs.erofs --quiet --tar=f -zlz4hc -L "$1" -U "$2" -T "$3" --mkfs-time disk.img tree.tar
rm tree.tar`,
		check: []string{"fsck.erofs", "disk.img"},
	},
}

// fileSystemArgs is the container's command that makes a file system.
func fileSystemArgs(spec DiskSpec) []string {
	return []string{"sh", "-c", "set -e\n" + fileSystems[spec.Form].script, "sh", RootLabel, spec.UUID.String(),
		strconv.FormatInt(spec.Epoch.Unix(), 10), strconv.FormatInt(int64(spec.Size), 10)}
}

// NeedsForms says that a form is made by more tools than the usual imaging image has.
func NeedsForms(f Form) bool {
	_, ok := fileSystems[f]
	return ok
}

// makeFileSystem makes a file system of a tree, checks it and writes it to file.
func (m Maker) makeFileSystem(ctx context.Context, spec DiskSpec, t *tree, file string) (err error) {
	fs, ok := fileSystems[spec.Form]
	if !ok {
		return fmt.Errorf("kimg does not make %s", spec.Form)
	}
	k, err := m.startWorker(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.close(ctx)) }()
	said := &complaints{w: m.log()}
	args := append(fileSystemArgs(spec), strconv.FormatInt(t.nodes["."].mtime.Unix(), 10))
	if err := reading.Pipe(t.write, func(r io.Reader) error {
		err := k.c.Exec(ctx, &container.ExecCmd{Args: args, Dir: workDir, Stdin: r, Stdout: said, Stderr: said,
			Env: []string{"TZ=UTC", "LC_ALL=C.UTF-8"}})
		if err == nil { // a tar's padding may be left
			_, err = io.Copy(io.Discard, r)
		}
		return err
	}); err != nil {
		return fmt.Errorf("run its mkfs: %w%s", err, said.last())
	}
	said = &complaints{w: m.log()}
	if err := k.c.Exec(ctx, &container.ExecCmd{Args: fs.check, Dir: workDir, Stdout: said, Stderr: said}); err != nil {
		return fmt.Errorf("check it: %w%s", err, said.last())
	}
	out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			err = errors.Join(err, os.Remove(file))
		}
	}()
	if err := reading.Pipe(
		func(w io.Writer) error { return k.Get(ctx, diskName, w) },
		func(r io.Reader) error {
			n, err := sparse.Copy(out, r)
			if err == nil && spec.Form.Sized() && n != int64(spec.Size) {
				err = fmt.Errorf("it came back with %d bytes, want %d", n, int64(spec.Size))
			}
			return err
		},
	); err != nil {
		return err
	}
	return out.Sync()
}
