package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Size is how much the tree at dir takes on its disk, in bytes. A file with several names counts once.
func Size(ctx context.Context, ids IDs, dir string) (n int64, err error) {
	n, err = diskSize(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return n, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	defer w.Close()
	err = help(ctx, ids, 0, func(l *link) error { return l.call(ctx, job{Op: opSize, Dirs: []string{dir}}, w) }, &dir)
	if err == nil {
		_, err = fmt.Fscanln(r, &n)
	}
	return n, err
}

// diskSize follows no link. What vanishes meanwhile counts or not.
func diskSize(dir string) (n int64, err error) {
	seen := map[[2]uint64]bool{}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		if errors.Is(err, fs.ErrNotExist) && path != dir {
			return nil
		}
		if err != nil {
			return err
		}
		if inode := [2]uint64{st.Dev, st.Ino}; !seen[inode] {
			seen[inode] = st.Nlink > 1 && !d.IsDir()
			n += st.Blocks * 512
		}
		return nil
	})
	return n, err
}

// Sync returns when all of the file system that dir is on is on its disk.
func Sync(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &os.PathError{Op: "sync", Path: dir, Err: err}
	}
	return nil
}
