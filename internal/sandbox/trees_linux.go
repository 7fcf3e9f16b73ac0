package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Unpack unpacks a plain tar into dir, which is made where it is missing. Owners (with one id: this user's all of
// them), modes, times, and the extended attributes security.capability, user.* and access control lists are the tar's;
// device nodes are left out. No name or link of the tar leads out of dir.
func Unpack(ctx context.Context, ids IDs, dir string, tar io.Reader) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return help(ctx, ids, 0, func(l *link) error { return l.unpack(ctx, dir, tar) }, &dir)
}

// Pack writes a tar of the tree at dir, whose names begin with "./", with its owners as ids have them inside.
func Pack(ctx context.Context, ids IDs, dir string, tar io.Writer) error {
	return help(ctx, ids, 0, func(l *link) error { return l.pack(ctx, dir, tar) }, &dir)
}

// Copy copies the tree from to the directory to, which is made. Files share their blocks where the file system can do
// that. Owners, modes, times and attributes are the same; device nodes are left out.
func Copy(ctx context.Context, ids IDs, from, to string) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	return help(ctx, ids, 0, func(l *link) error {
		return l.call(ctx, job{Op: opCopy, From: from, Dirs: []string{to}})
	}, &from, &to)
}

// Remove removes trees, with what ids own in them. It is no error where there is none. It follows no link.
func Remove(ctx context.Context, ids IDs, dirs ...string) error {
	if ids.One() || os.Getuid() == 0 {
		var errs []error
		for _, d := range dirs {
			errs = append(errs, ctx.Err(), removeOwn(d))
		}
		return errors.Join(errs...)
	}
	dirs = append([]string(nil), dirs...)
	var paths []*string
	for i := range dirs {
		paths = append(paths, &dirs[i])
	}
	return help(ctx, ids, 0, func(l *link) error { return l.call(ctx, job{Op: opRemove, Dirs: dirs}) }, paths...)
}

// Overlay tries an overlay in a user namespace with its layers in a new directory in dir, which it removes. The error
// says why there is none: Config.Layer does not work there then, and Copy does.
func Overlay(ctx context.Context, ids IDs, dir string) (err error) {
	trial, err := os.MkdirTemp(dir, "overlay-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, Remove(context.WithoutCancel(ctx), ids, trial)) }()
	return help(ctx, ids, unix.CLONE_NEWNS, func(l *link) error {
		return l.call(ctx, job{Op: opOverlay, Dirs: []string{trial}})
	}, &trial)
}

// help starts a helper in a user namespace of its own and ends it after do. Paths are made absolute for it.
func help(ctx context.Context, ids IDs, flags uintptr, do func(*link) error, paths ...*string) error {
	for _, p := range paths {
		abs, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = abs
	}
	l, err := spawn(ctx, ids, flags)
	if err != nil {
		return err
	}
	defer l.close()
	return do(l)
}

// unpack sends a tar through a pipe.
func (l *link) unpack(ctx context.Context, dir string, tar io.Reader) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { w.Close() })()
	read := make(chan error, 1)
	go func() {
		_, err := io.Copy(w, tar)
		read <- err
		w.Close()
	}()
	err = l.call(ctx, job{Op: opUnpack, Dirs: []string{dir}}, r)
	r.Close()
	select {
	case rerr := <-read: // a tar that breaks off explains less than why it did
		if rerr != nil && !errors.Is(rerr, unix.EPIPE) && ctx.Err() == nil {
			return rerr
		}
	default: // the other side had enough, and tar may block for ever
	}
	return err
}

// pack receives a tar through a pipe.
func (l *link) pack(ctx context.Context, dir string, tar io.Writer) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	defer context.AfterFunc(ctx, func() { r.Close() })()
	done := make(chan error, 1)
	go func() {
		err := l.call(ctx, job{Op: opPack, Dirs: []string{dir}}, w)
		w.Close()
		done <- err
	}()
	_, werr := io.Copy(tar, r)
	r.Close()
	err = <-done
	if werr != nil && ctx.Err() == nil {
		return werr
	}
	return err
}

// work with trees, on the helper's side

func (in *initd) unpack(dir string, r io.Reader) error {
	how := uint64(0)
	if in.room != nil {
		how = unix.RESOLVE_NO_MAGICLINKS
	}
	fd, err := openat2(unix.AT_FDCWD, dir, unix.O_RDONLY|unix.O_DIRECTORY, how)
	if err != nil {
		return &os.PathError{Op: "unpack into", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	return unpack(fd, in.inodes, r)
}

func (in *initd) packTree(dir string, w io.Writer) error {
	fd, err := openTree(dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	put, end := writeTar(w)
	if err := newWalker(in.inodes, put).walk(fd, ".", "."); err != nil {
		return err
	}
	return end()
}

func openTree(dir string) (int, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return fd, nil
}

func (in *initd) copyTree(from, to string) error {
	src, err := openTree(from)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	dst, err := openTree(to)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	u := newUnpacker(dst, in.inodes)
	defer u.close()
	err = newWalker(in.inodes, u.putFile).walk(src, ".", ".")
	if err != nil {
		return err
	}
	return u.finish()
}

// removeOwn removes a tree of this user's. Directories that it may not read or write to are opened up first.
func removeOwn(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if info, err := os.Lstat(dir); err == nil && info.IsDir() {
		_ = os.Chmod(dir, 0o700) // where it fails, so does what follows
	}
	root, oerr := os.OpenRoot(dir)
	if oerr != nil {
		return err
	}
	defer root.Close()
	_ = fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = root.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// tryOverlay does in an overlay what needs more than writing a file: it removes, replaces and gives away.
func (in *initd) tryOverlay(dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	root := filepath.Join(dir, "root")
	if err := os.MkdirAll(root+"/sub/deep", 0o755); err != nil {
		return err
	}
	lower, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(lower)
	over, err := mountOverlay(lower, filepath.Join(dir, "layer"))
	if err != nil {
		return err
	}
	defer unix.Close(over)
	if err := unix.MoveMount(over, "", lower, "",
		unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount an overlay: %w", err)
	}
	err = os.RemoveAll(root + "/sub")
	if err == nil {
		err = os.Mkdir(root+"/sub", 0o755)
	}
	if err == nil && !in.ids.One() {
		err = os.Chown(root+"/sub", 1, 1)
	}
	if list, rerr := os.ReadDir(root + "/sub"); err == nil && rerr == nil && len(list) > 0 {
		err = errors.New("what was removed is there again")
	}
	return errors.Join(err, unix.Unmount(root, unix.MNT_DETACH))
}
