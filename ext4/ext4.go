// Package ext4 reads an ext4 image in a file and edits it, without a mount and without privileges. Begin with [Open]
// (or [New], for any io.ReaderAt), which gives an [Image]: a file system of io/fs, so that fs.WalkDir, fs.ReadFile,
// http.FS and the like work on it. Beside what io/fs has there are symbolic links ([Image.ReadLink]), owners, inode
// numbers, all four times and devices ([Stat], behind Sys), and extended attributes ([Image.Xattrs]).
//
// [Image.Walk] is for those who ask how an image is laid out, and not only what is in it: it goes in the order of the
// disk, and its [Node] knows the extents, and so the holes, of a file. [Image.Fields], [Image.Areas] and
// [Image.InodeAt] explain any other byte of the image.
//
// [Change] writes files, directories and links into an image, or removes them, and replaces the image only when
// e2fsck and the reader have found the result whole. debugfs does the work, with a [Worker] that runs it: on this
// machine ([NewHostWorker]), or wherever the caller has it run. [Apply] and [Verify] are its parts.
//
// The reader treats an image as hostile. What does not add up is an error that wraps [ErrCorrupt], every loop is
// bounded by the image's size, no directory is read twice in a Walk, and what a Walk keeps is bounded as well. It
// reads extents and block maps, inline data, 64-bit and flexible block groups, and inodes of any size; it refuses a
// file system whose journal has to be replayed first. Checksums are left to e2fsck. (The libraries at hand were tried
// first: one returns holes as other files' bytes and can hang, the other panics on a damaged superblock and knows
// neither owners nor attributes.)
//
// The format is that of the kernel's Documentation/filesystems/ext4.
package ext4

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// ErrCorrupt is in the chain of every error that says that an image contradicts itself. e2fsck may mend it.
var ErrCorrupt = errors.New("the file system is damaged")

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrCorrupt}, args...)...)
}

// maxSymlinks is how many symbolic links one lookup follows, as in the kernel.
const maxSymlinks = 40

// Image is an open ext4 file system. Its methods take the names of io/fs: "." is the root, "etc/hosts" a file.
// Open, Stat, ReadDir and ReadFile follow symbolic links inside the image, Lstat and ReadLink do not follow the
// last one. It may be used by many goroutines at once.
type Image struct {
	r      io.ReaderAt
	c      io.Closer
	sb     *Superblock
	super  []byte  // the superblock's bytes
	groups []int64 // where each block group's inode table begins, in blocks
	maps   []int64 // where the groups' two bitmaps are, in blocks
	names  nameCache
}

var (
	_ fs.ReadLinkFS = (*Image)(nil)
	_ fs.ReadDirFS  = (*Image)(nil)
	_ fs.ReadFileFS = (*Image)(nil)
	_ fs.StatFS     = (*Image)(nil)
)

// Open opens the image in a file for reading.
func Open(name string) (*Image, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open image: %w", err)
	}
	img, err := New(f, st.Size())
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open image %s: %w", name, err)
	}
	img.c = f
	return img, nil
}

// New reads the image of size bytes in r.
func New(r io.ReaderAt, size int64) (*Image, error) {
	b, sb, err := readSuperblock(r, size)
	if err != nil {
		return nil, err
	}
	img := &Image{r: r, sb: sb, super: b}
	if img.groups, img.maps, err = readGroups(r, sb); err != nil {
		return nil, err
	}
	return img, nil
}

// Close closes the image's file.
func (img *Image) Close() error {
	if img.c == nil {
		return nil
	}
	return img.c.Close()
}

// Superblock returns what the file system says about itself.
func (img *Image) Superblock() Superblock { return *img.sb }

// on finds the inode that a name leads to and asks something of it.
func on[T any](img *Image, op, name string, follow bool, ask func(*inode) (T, error)) (v T, err error) {
	in, err := img.lookup(name, follow)
	if err == nil {
		v, err = ask(in)
	}
	return v, pathError(op, name, err)
}

// Open opens a file or directory for reading.
func (img *Image) Open(name string) (fs.File, error) {
	return on(img, "open", name, true, func(in *inode) (fs.File, error) {
		return &file{info: info{baseName(name), in}, img: img}, nil
	})
}

// Stat describes what name leads to.
func (img *Image) Stat(name string) (fs.FileInfo, error) {
	return on(img, "stat", name, true, func(in *inode) (fs.FileInfo, error) { return info{baseName(name), in}, nil })
}

// Lstat describes name itself. Its Sys is a *Stat.
func (img *Image) Lstat(name string) (fs.FileInfo, error) {
	return on(img, "lstat", name, false, func(in *inode) (fs.FileInfo, error) { return info{baseName(name), in}, nil })
}

// ReadLink returns the text of a symbolic link.
func (img *Image) ReadLink(name string) (string, error) {
	return on(img, "readlink", name, false, img.target)
}

// ReadDir lists a directory, sorted by name.
func (img *Image) ReadDir(name string) ([]fs.DirEntry, error) {
	return on(img, "readdir", name, true, img.list)
}

// ReadFile returns the bytes of a file that is no larger than the image itself.
func (img *Image) ReadFile(name string) ([]byte, error) {
	return on(img, "read", name, true, func(in *inode) ([]byte, error) {
		if in.typ() != fs.ModeDir && in.typ() != 0 {
			return nil, errors.New("not a regular file")
		}
		return img.readAll(in, img.sb.bytes())
	})
}

// Xattrs returns the extended attributes of name itself, by their full names.
func (img *Image) Xattrs(name string) (map[string][]byte, error) {
	return on(img, "read attributes", name, false, img.xattrs)
}

func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

func (img *Image) lookup(name string, follow bool) (*inode, error) {
	if !fs.ValidPath(name) {
		return nil, fs.ErrInvalid
	}
	root, err := img.inode(rootInode)
	if err != nil {
		return nil, err
	}
	if root.typ() != fs.ModeDir {
		return nil, corrupt("the root is not a directory")
	}
	trail, links := []*inode{root}, 0
	todo := strings.Split(name, "/")
	for len(todo) > 0 {
		elem := todo[0]
		todo = todo[1:]
		here := trail[len(trail)-1]
		switch elem {
		case "", ".":
			continue
		case "..":
			trail = trail[:max(1, len(trail)-1)]
			continue
		}
		next, err := img.child(here, elem)
		if err != nil {
			return nil, err
		}
		if next.typ() != fs.ModeSymlink || len(todo) == 0 && !follow {
			trail = append(trail, next)
			continue
		}
		if links++; links > maxSymlinks {
			return nil, errors.New("too many symbolic links")
		}
		to, err := img.target(next)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(to, "/") {
			trail = trail[:1]
		}
		todo = slices.Concat(strings.Split(to, "/"), todo)
	}
	return trail[len(trail)-1], nil
}
