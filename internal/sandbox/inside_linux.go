package sandbox

import (
	"errors"
	"path"

	"golang.org/x/sys/unix"
)

// openInside opens a path below root, which links do not lead out of.
func openInside(root int, target string, flags int) (int, error) {
	return openat2(root, target, flags, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
}

// openat2 tries again where a rename anywhere in the system made the kernel unsure of a "..".
func openat2(dir int, target string, flags int, how uint64) (fd int, err error) {
	for range 100 {
		fd, err = unix.Openat2(dir, target, &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: how})
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	return fd, err
}

// resolve returns what is at a path below root (O_PATH); it makes an empty file or directory where there is nothing.
func resolve(root int, target string, dir bool) (fd int, made bool, err error) {
	target = path.Clean("/" + target)
	fd, err = openInside(root, target, unix.O_PATH)
	if err == nil || !errors.Is(err, unix.ENOENT) || target == "/" {
		return fd, false, err
	}
	parent, _, err := resolve(root, path.Dir(target), true)
	if err != nil {
		return -1, false, err
	}
	defer unix.Close(parent)
	if dir {
		err = unix.Mkdirat(parent, path.Base(target), 0o755)
	} else {
		err = unix.Mknodat(parent, path.Base(target), unix.S_IFREG|0o644, 0)
	}
	if err != nil {
		return -1, false, err
	}
	fd, err = openInside(root, target, unix.O_PATH)
	return fd, true, err
}
