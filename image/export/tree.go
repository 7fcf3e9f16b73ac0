package export

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/kimg/kimg/ext4"
	"github.com/kimg/kimg/internal/artifact"
)

// Tar is the root filesystem's files as they are in the image, so what a guest wrote to it is there too: sorted by
// name, with numeric owners, modes, times to the second, devices, hard links, and extended attributes as GNU tar
// and libarchive write them (SCHILY.xattr.*).
type Tar struct{}

// Export implements Format.
func (Tar) Export(ctx context.Context, b *Build, w io.Writer) error {
	return exportTree(ctx, b, w, func(string, fs.FileInfo) bool { return true })
}

// exportTree writes the files that keep wants.
func exportTree(ctx context.Context, b *Build, w io.Writer, keep func(name string, st fs.FileInfo) bool) (err error) {
	img, err := ext4.Open(b.path(artifact.Disk))
	if err != nil {
		return err
	}
	defer img.Close()
	t := &treeWriter{ctx: ctx, img: img, tw: tar.NewWriter(w), keep: keep, first: map[uint32]string{}}
	if err := t.write(); err != nil {
		return fmt.Errorf("read the root filesystem: %w", err)
	}
	if t.sockets > 0 {
		b.warn(fmt.Sprintf("a tar cannot hold sockets: %d of them are left out", t.sockets))
	}
	return nil
}

// treeWriter is one writing of a tree, which ends with ctx.
type treeWriter struct {
	ctx     context.Context
	img     *ext4.Image
	tw      *tar.Writer
	keep    func(string, fs.FileInfo) bool
	first   map[uint32]string // the first name of each inode that has several
	sockets int
}

// entry is one name of the tree.
type entry struct {
	name string
	st   fs.FileInfo
}

func (t *treeWriter) write() error {
	list, err := t.list()
	if err != nil {
		return err
	}
	for _, e := range list {
		if t.ctx.Err() != nil {
			return context.Cause(t.ctx)
		}
		if err := t.put(e); err != nil {
			return fmt.Errorf("/%s: %w", e.name, err)
		}
	}
	return t.tw.Close()
}

// list returns all names, sorted byte by byte: a directory comes before what is
// in it, and the first name of a file before its other ones.
func (t *treeWriter) list() ([]entry, error) {
	root, err := t.img.Lstat(".")
	if err != nil {
		return nil, err
	}
	list, bytes := []entry{{".", root}}, 0
	limit := int(min(t.img.Superblock().Inodes, 1<<31-1)) * maxNames
	for dirs := []string{"."}; len(dirs) > 0; {
		dir := dirs[len(dirs)-1]
		dirs = dirs[:len(dirs)-1]
		names, err := t.children(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range names {
			if bytes += len(e.name); bytes > maxPaths {
				return nil, fmt.Errorf("%w: its paths have more than %d bytes", ext4.ErrCorrupt, maxPaths)
			}
			if list = append(list, e); len(list) > limit {
				return nil, fmt.Errorf("%w: more names than its inodes can have", ext4.ErrCorrupt)
			}
			if e.st.IsDir() {
				dirs = append(dirs, e.name)
			}
		}
	}
	slices.SortFunc(list[1:], func(a, b entry) int { return cmp.Compare(a.name, b.name) })
	return list, nil
}

// children are the names in a directory that are wanted.
func (t *treeWriter) children(dir string) (out []entry, err error) {
	if t.ctx.Err() != nil {
		return nil, context.Cause(t.ctx)
	}
	names, err := t.img.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, d := range names {
		st, err := d.Info()
		if err == nil {
			err = ext4.CheckPath(dir, d.Name())
		}
		if err != nil {
			return nil, err
		}
		name := path.Join(dir, d.Name())
		if name == lostFound && t.empty(name) || !t.keep(name, st) {
			continue
		}
		out = append(out, entry{name, st})
	}
	return out, nil
}

// lostFound is e2fsck's and no part of the tree, as long as nothing was found.
const lostFound = "lost+found"

// maxNames is how many names an inode may have on average. No tree comes near it.
const maxNames = 64

// maxPaths bounds all paths together, in bytes: they are kept, to be sorted.
const maxPaths = 1 << 30

func (t *treeWriter) empty(dir string) bool {
	l, err := t.img.ReadDir(dir)
	return err == nil && len(l) == 0
}

// put writes one entry.
func (t *treeWriter) put(e entry) error {
	s := e.st.Sys().(*ext4.Stat)
	h := &tar.Header{
		Name: "./" + e.name, Mode: tarMode(e.st.Mode()), Uid: int(s.UID), Gid: int(s.GID),
		ModTime: e.st.ModTime().UTC().Truncate(time.Second),
	}
	if !e.st.IsDir() && s.Links > 1 {
		if first, ok := t.first[s.Inode]; ok {
			h.Typeflag, h.Linkname = tar.TypeLink, "./"+first
			return t.tw.WriteHeader(h)
		}
		t.first[s.Inode] = e.name
	}
	switch e.st.Mode().Type() {
	case 0:
		h.Typeflag, h.Size = tar.TypeReg, e.st.Size()
	case fs.ModeDir:
		h.Typeflag = tar.TypeDir
		h.Name = strings.TrimSuffix(h.Name, ".") // the root is "./"
		h.Name = strings.TrimSuffix(h.Name, "/") + "/"
	case fs.ModeSymlink:
		to, err := t.img.ReadLink(e.name)
		if err != nil {
			return err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, to
	case fs.ModeNamedPipe:
		h.Typeflag = tar.TypeFifo
	case fs.ModeDevice:
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeBlock, int64(s.Major), int64(s.Minor)
	case fs.ModeDevice | fs.ModeCharDevice:
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, int64(s.Major), int64(s.Minor)
	case fs.ModeSocket:
		t.sockets++
		return nil
	default:
		return fmt.Errorf("has the unknown type %v", e.st.Mode().Type())
	}
	if err := t.attributes(e.name, h); err != nil {
		return err
	}
	if err := t.tw.WriteHeader(h); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	return t.content(e.name, h.Size)
}

func (t *treeWriter) content(name string, size int64) error {
	f, err := t.img.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(t.tw, f)
	if err == nil && n != size {
		err = fmt.Errorf("%w: it has %d bytes where %d were promised", ext4.ErrCorrupt, n, size)
	}
	return err
}

// attributes puts the extended attributes into the header.
func (t *treeWriter) attributes(name string, h *tar.Header) error {
	attrs, err := t.img.Xattrs(name)
	if err != nil {
		return err
	}
	for k, v := range attrs {
		switch {
		case k == "system.posix_acl_access" || k == "system.posix_acl_default":
			if v, err = aclForUsers(v); err != nil {
				return errors.Join(fmt.Errorf("attribute %s", k), err)
			}
		case strings.HasPrefix(k, "system."):
			continue // the file system's own, such as the bytes of a small file
		}
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+k] = string(v)
	}
	return nil
}

// tarMode is a mode as tar and chmod count it.
func tarMode(m fs.FileMode) int64 {
	bits := int64(m.Perm())
	for f, bit := range map[fs.FileMode]int64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&f != 0 {
			bits |= bit
		}
	}
	return bits
}
