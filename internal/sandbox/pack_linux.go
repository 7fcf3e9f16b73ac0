package sandbox

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// walker hands a tree to put, entry by entry, in the order of names. No link is followed; sockets, and what vanishes
// meanwhile, are left out.
type walker struct {
	inodes inodes
	put    func(h *tar.Header, content *os.File) error // content only of a regular file
	links  map[[3]uint64]string                        // first names of inodes that have several
}

func newWalker(in inodes, put func(*tar.Header, *os.File) error) *walker {
	return &walker{inodes: in, put: put, links: map[[3]uint64]string{}}
}

// writeTar returns a walker's put that writes a tar. Times are whole seconds, as Docker's are.
func writeTar(w io.Writer) (put func(*tar.Header, *os.File) error, end func() error) {
	t := tar.NewWriter(w)
	return func(h *tar.Header, content *os.File) error {
		h.ModTime = h.ModTime.Truncate(time.Second)
		if err := t.WriteHeader(h); err != nil {
			return fmt.Errorf("write the tar: %w", err)
		}
		if content == nil {
			return nil
		}
		if _, err := io.CopyN(t, content, h.Size); errors.Is(err, io.EOF) {
			return errors.New("it became shorter while it was read")
		} else if err != nil {
			return fmt.Errorf("copy it into the tar: %w", err)
		}
		return nil
	}, t.Close
}

// walk hands over what is at base in dir, called name, and all below it.
func (w *walker) walk(dir int, base, name string) error {
	err := w.entry(dir, base, name)
	if err != nil && !errors.As(err, new(*packError)) {
		err = &packError{name, err}
	}
	return err
}

type packError struct {
	name string
	err  error
}

func (e *packError) Error() string { return fmt.Sprintf("pack %q: %v", e.name, e.err) }
func (e *packError) Unwrap() error { return e.err }

func (w *walker) entry(dir int, base, name string) error {
	var x unix.Statx_t
	if err := w.inodes.Statx(dir, base, nofollow, unix.STATX_BASIC_STATS, &x); err != nil {
		return gone(err)
	}
	h := &tar.Header{
		Name: name, Mode: int64(x.Mode & 0o7777), Uid: int(x.Uid), Gid: int(x.Gid),
		ModTime: time.Unix(x.Mtime.Sec, int64(x.Mtime.Nsec)), Format: tar.FormatPAX,
	}
	kind := x.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR && x.Nlink > 1 {
		key := [3]uint64{uint64(x.Dev_major), uint64(x.Dev_minor), x.Ino}
		if first, ok := w.links[key]; ok {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return w.put(h, nil)
		}
		w.links[key] = name
	}
	switch kind {
	case unix.S_IFDIR:
		return w.directory(dir, base, h)
	case unix.S_IFREG:
		return w.file(dir, base, h)
	case unix.S_IFLNK:
		target, err := readlinkat(dir, base)
		if err != nil {
			return gone(err)
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if kind == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(x.Rdev_major), int64(x.Rdev_minor)
	default: // a tar has no sockets
		return nil
	}
	return w.put(h, nil)
}

// gone drops the error of what has been removed since it was listed.
func gone(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func (w *walker) file(dir int, base string, h *tar.Header) error {
	// What is opened may have come in the place of what was looked at: nothing that waits, and no link.
	fd, err := unix.Openat(dir, base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return gone(err)
	}
	f := os.NewFile(uintptr(fd), h.Name)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errors.New("it was replaced while it was read")
	}
	h.Typeflag, h.Size = tar.TypeReg, st.Size
	if h.PAXRecords, err = xattrs(fd); err != nil {
		return err
	}
	return w.put(h, f)
}

func (w *walker) directory(dir int, base string, h *tar.Header) error {
	fd, err := unix.Openat(dir, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return gone(err)
	}
	f := os.NewFile(uintptr(fd), h.Name)
	defer f.Close()
	h.Typeflag = tar.TypeDir
	h.Name = strings.TrimSuffix(h.Name, "/") + "/"
	if h.PAXRecords, err = xattrs(fd); err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	if err := w.put(h, nil); err != nil {
		return err
	}
	for _, n := range names {
		if err := w.walk(fd, n, h.Name+n); err != nil {
			return err
		}
	}
	return nil
}

func readlinkat(dir int, base string) (string, error) {
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, base, b)
	return string(b[:max(n, 0)]), err
}

// xattrs returns the extended attributes that belong to a file, as PAX records.
func xattrs(fd int) (map[string]string, error) {
	var list [16 << 10]byte
	n, err := unix.Flistxattr(fd, list[:])
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list extended attributes: %w", err)
	}
	var all map[string]string
	for name := range bytes.SplitSeq(list[:n], []byte{0}) {
		if !isKept(string(name)) {
			continue
		}
		var value [64 << 10]byte // the kernel's limit
		n, err := unix.Fgetxattr(fd, string(name), value[:])
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		if all == nil {
			all = map[string]string{}
		}
		all[xattrPrefix+string(name)] = string(value[:n])
	}
	return all, nil
}

// pack writes a tar of what is at a path of the sandbox.
func (in *initd) pack(target string, w io.Writer) error {
	target = path.Clean("/" + target)
	base := path.Base(target)
	if target == "/" {
		base = "."
	}
	dir, err := openat2(unix.AT_FDCWD, path.Dir(target), unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return notThere(target, err)
	}
	defer unix.Close(dir)
	var x unix.Statx_t
	if err := unix.Statx(dir, base, nofollow, unix.STATX_TYPE, &x); err != nil {
		return notThere(target, err)
	}
	put, end := writeTar(w)
	if err := newWalker(in.inodes, put).walk(dir, base, base); err != nil {
		return err
	}
	return end()
}

// notThere is the error of a path at which there is nothing: below a file, too.
func notThere(target string, err error) error {
	if errors.Is(err, unix.ENOTDIR) {
		err = unix.ENOENT
	}
	return &os.PathError{Op: "pack", Path: target, Err: err}
}
