package sandbox

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kimg/kimg/internal/sparse"
)

// inodes are the calls that differ where this process may not give files away: owners.Book has them, too.
type inodes interface {
	Statx(dir int, name string, flags, mask int, x *unix.Statx_t) error
	Chown(dir int, name string, flags int, uid, gid uint32) error
	Mknod(dir int, name string, mode uint32, dev uint64) error
}

// plain are a tree's own inodes: with one id all files are this user's. No user namespace can make a device node.
type plain struct{ one bool }

func (plain) Statx(dir int, name string, flags, mask int, x *unix.Statx_t) error {
	return unix.Statx(dir, name, flags, mask, x)
}

func (p plain) Chown(dir int, name string, flags int, uid, gid uint32) error {
	if p.one {
		return nil
	}
	return unix.Fchownat(dir, name, int(uid), int(gid), flags)
}

func (plain) Mknod(int, string, uint32, uint64) error { return nil }

const (
	xattrPrefix = "SCHILY.xattr." // of PAX records, as GNU tar and libarchive write them
	nofollow    = unix.AT_SYMLINK_NOFOLLOW
)

// isKept reports whether an extended attribute belongs to what a file is: not the marks of overlays, nor what only
// root may set or what the system around a tree sets.
func isKept(name string) bool {
	switch name {
	case "security.capability", "system.posix_acl_access", "system.posix_acl_default":
		return true
	}
	return strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.")
}

// unpacker makes files below a directory. Neither names nor links lead out of it, and nothing is written through a
// link or into a file that was there.
type unpacker struct {
	root   int
	inodes inodes
	buf    []byte

	parent     int // of the file before
	parentName string
	dirs       []*tar.Header // whose attributes are set when they are full
}

func newUnpacker(root int, in inodes) *unpacker {
	return &unpacker{root: root, inodes: in, buf: make([]byte, 256<<10), parent: -1}
}

// unpack makes what a tar has, and reads it to its end.
func unpack(root int, in inodes, r io.Reader) error {
	u := newUnpacker(root, in)
	defer u.close()
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read the tar: %w", err)
		}
		if err := u.put(h, t); err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, r); err != nil { // padding
		return fmt.Errorf("read the tar: %w", err)
	}
	return u.finish()
}

func (u *unpacker) close() {
	if u.parent >= 0 {
		unix.Close(u.parent)
	}
}

// put makes one entry of a tar.
func (u *unpacker) put(h *tar.Header, r io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if err := u.make(h, r); err != nil {
		return fmt.Errorf("unpack %q: %w", h.Name, err)
	}
	return nil
}

// putFile is put for a walker.
func (u *unpacker) putFile(h *tar.Header, content *os.File) error {
	if content == nil {
		return u.put(h, nil)
	}
	return u.put(h, content)
}

// finish gives directories their modes and times, which a file that is made in them would change.
func (u *unpacker) finish() error {
	for i := len(u.dirs) - 1; i >= 0; i-- {
		h := u.dirs[i]
		if err := u.finishDir(h); err != nil {
			return fmt.Errorf("unpack %q: %w", h.Name, err)
		}
	}
	return nil
}

func (u *unpacker) finishDir(h *tar.Header) error {
	fd, err := openInside(u.root, inside(h.Name), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return u.attributes(fd, h)
}

// inside is a name of a tar as a path below its root.
func inside(name string) string {
	if p := strings.TrimPrefix(path.Clean("/"+name), "/"); p != "" {
		return p
	}
	return "."
}

// in returns the directory of a path, which is made where it is missing, and the path's last element.
func (u *unpacker) in(p string) (dir int, base string, err error) {
	parent := path.Dir(p)
	if u.parent < 0 || parent != u.parentName {
		fd, _, err := resolve(u.root, parent, true)
		if err != nil {
			return -1, "", err
		}
		u.close()
		u.parent, u.parentName = fd, parent
	}
	return u.parent, path.Base(p), nil
}

func (u *unpacker) make(h *tar.Header, r io.Reader) error {
	name := inside(h.Name)
	if name == "." {
		if h.Typeflag != tar.TypeDir {
			return errors.New("the root is not a directory")
		}
		u.dirs = append(u.dirs, h)
		return nil
	}
	dir, base, err := u.in(name)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.directory(dir, base, h)
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return u.file(dir, base, h, r)
	case tar.TypeSymlink:
		err = replace(dir, base, func() error { return unix.Symlinkat(h.Linkname, dir, base) })
	case tar.TypeLink:
		target := inside(h.Linkname)
		from, _, err := resolve(u.root, path.Dir(target), true)
		if err != nil {
			return err
		}
		defer unix.Close(from)
		return replace(dir, base, func() error { return unix.Linkat(from, path.Base(target), dir, base, 0) })
	case tar.TypeFifo:
		err = replace(dir, base, func() error { return unix.Mknodat(dir, base, unix.S_IFIFO|0o600, 0) })
	case tar.TypeChar, tar.TypeBlock:
		return u.device(dir, base, h)
	default:
		return fmt.Errorf("entries of type %q are not known", h.Typeflag)
	}
	if err != nil {
		return err
	}
	return u.attributesAt(dir, base, h)
}

// replace makes something new, in the place of what is no directory.
func replace(dir int, base string, create func() error) error {
	err := create()
	if errors.Is(err, unix.EEXIST) {
		if err := unix.Unlinkat(dir, base, 0); err != nil {
			return fmt.Errorf("replace what is there: %w", err)
		}
		err = create()
	}
	return err
}

func (u *unpacker) directory(dir int, base string, h *tar.Header) error {
	err := unix.Mkdirat(dir, base, 0o700)
	if errors.Is(err, unix.EEXIST) {
		var st unix.Stat_t
		if err := unix.Fstatat(dir, base, &st, nofollow); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return fmt.Errorf("replace what is there: %w", unix.ENOTDIR)
		}
		err = nil
	}
	u.dirs = append(u.dirs, h)
	return err
}

func (u *unpacker) file(dir int, base string, h *tar.Header, r io.Reader) error {
	var f *os.File
	err := replace(dir, base, func() error {
		fd, err := unix.Openat(dir, base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err == nil {
			f = os.NewFile(uintptr(fd), h.Name)
		}
		return err
	})
	if err != nil {
		return err
	}
	defer f.Close()
	if err := u.content(f, h, r); err != nil {
		return err
	}
	if err := u.attributes(int(f.Fd()), h); err != nil {
		return err
	}
	return f.Close()
}

func (u *unpacker) content(f *os.File, h *tar.Header, r io.Reader) (err error) {
	from, cloned := r.(*os.File)
	if cloned {
		cloned = unix.IoctlFileClone(int(f.Fd()), int(from.Fd())) == nil
	}
	n := h.Size
	switch {
	case cloned, n == 0:
	case n < 1<<20:
		n, err = io.CopyBuffer(struct{ io.Writer }{f}, io.LimitReader(r, n), u.buf)
	default:
		n, err = sparse.Copy(f, io.LimitReader(r, n))
	}
	if err == nil && n != h.Size {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (u *unpacker) device(dir int, base string, h *tar.Header) error {
	kind := uint32(unix.S_IFCHR)
	if h.Typeflag == tar.TypeBlock {
		kind = unix.S_IFBLK
	}
	dev := unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	err := replace(dir, base, func() error { return u.inodes.Mknod(dir, base, kind|0o600, dev) })
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dir, base, &st, nofollow); errors.Is(err, unix.ENOENT) {
		return nil // left out
	}
	return u.attributesAt(dir, base, h)
}

// attributes sets what h says of a file that is open. An owner's change takes set-id bits and capabilities away, so it
// comes first.
func (u *unpacker) attributes(fd int, h *tar.Header) error {
	if err := u.inodes.Chown(fd, "", unix.AT_EMPTY_PATH, uint32(h.Uid), uint32(h.Gid)); err != nil {
		return fmt.Errorf("give it to %d:%d: %w", h.Uid, h.Gid, err)
	}
	if err := unix.Fchmod(fd, uint32(h.Mode&0o7777)); err != nil {
		return err
	}
	for k, v := range h.PAXRecords {
		if name, ok := strings.CutPrefix(k, xattrPrefix); ok && isKept(name) {
			if err := unix.Fsetxattr(fd, name, []byte(v), 0); err != nil {
				return fmt.Errorf("set %s: %w", name, err)
			}
		}
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, fdPath(fd), times(h), 0)
}

// attributesAt is attributes for what cannot be opened: links have no mode and no attributes of ours.
func (u *unpacker) attributesAt(dir int, base string, h *tar.Header) error {
	if err := u.inodes.Chown(dir, base, nofollow, uint32(h.Uid), uint32(h.Gid)); err != nil {
		return fmt.Errorf("give it to %d:%d: %w", h.Uid, h.Gid, err)
	}
	if h.Typeflag != tar.TypeSymlink {
		fd, err := unix.Openat(dir, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Chmod(fdPath(fd), uint32(h.Mode&0o7777)); err != nil {
			return err
		}
	}
	return unix.UtimesNanoAt(dir, base, times(h), nofollow)
}

func times(h *tar.Header) []unix.Timespec {
	t := unix.NsecToTimespec(h.ModTime.UnixNano())
	return []unix.Timespec{t, t}
}
