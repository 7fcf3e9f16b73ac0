package ext4

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
)

// This file is about how an image is laid out: the order of names, the place of blocks, the bytes of records.

// Node is one name of a [Image.Walk].
type Node struct {
	Path  string // as io/fs has it
	Place int    // among its directory's entries as they lie on the disk, from 0

	img *Image
	in  *inode
}

// Info describes the node. Its Sys is a *Stat.
func (n Node) Info() fs.FileInfo { return info{baseName(n.Path), n.in} }

// Stat is what Info has no word for.
func (n Node) Stat() *Stat { return info{in: n.in}.Sys().(*Stat) }

// Xattrs returns the node's extended attributes by their full names.
func (n Node) Xattrs() (map[string][]byte, error) { return n.img.xattrs(n.in) }

// Link is a symbolic link's text.
func (n Node) Link() (string, error) { return n.img.target(n.in) }

// Content reads a regular file; size is in bytes.
func (n Node) Content() (r io.ReaderAt, size int64, err error) {
	if n.in.typ() != 0 {
		return nil, 0, errors.New("not a regular file")
	}
	c, err := n.img.open(n.in)
	if err != nil {
		return nil, 0, err
	}
	return c, c.size, nil
}

// Extent is a piece of a file that lies in one piece, in blocks. A Physical of 0 was allocated and never written;
// what no Extent covers is a hole. Both read as zeros.
type Extent struct{ Logical, Physical, Blocks int64 }

// Extents returns where the node's blocks are, in the order of the file: none for one that lies in its inode.
func (n Node) Extents() ([]Extent, error) {
	_, ext, err := n.blocks()
	return ext, err
}

// blocks also names the blocks of the map itself.
func (n Node) blocks() (own []int64, ext []Extent, err error) {
	t := n.in.typ()
	fast := t == fs.ModeSymlink && n.in.size < int64(len(n.in.block))
	if t != 0 && t != fs.ModeDir && t != fs.ModeSymlink || fast || n.in.flags&inodeFlagInlineData != 0 {
		return nil, nil, nil
	}
	return n.img.extentsOf(n.in)
}

// maxNames and maxDirBytes bound a Walk: an image may have its directories share
// their blocks, and so be far larger to read than it is. So does maxPaths, in bytes
// of all paths together: directories in each other are small, and their paths are not.
const (
	maxNames    = 1 << 20
	maxDirBytes = 4 << 30
	maxPaths    = 512 << 20
)

// MaxPath is how long a path in an image may be, in bytes: sixteen times the kernel's PATH_MAX.
const MaxPath = 64 << 10

// CheckPath refuses a path that is too long, before it is made of its directory's and its name.
func CheckPath(dir, name string) error {
	if len(dir)+1+len(name) > MaxPath {
		return corrupt("it has directories so deep in each other that a path has more than %d bytes", MaxPath)
	}
	return nil
}

type walker struct {
	img   *Image
	f     func(Node) error
	seen  map[uint32]*inode // by number: a file may have many names
	dirs  map[uint32]bool   // that were met; a directory has one name
	todo  []walkedDir
	names int
	bytes int64 // of the directories
	paths int64 // bytes
}

type walkedDir struct {
	name string
	in   *inode
}

// Walk calls f for every name in the image, the root first, a directory before what is in it, in the order in which
// names lie on the disk. A directory that cannot be read ends it, as does an image with more than a million names,
// or with paths longer than MaxPath.
func (img *Image) Walk(ctx context.Context, f func(Node) error) error {
	root, err := img.lookup(".", false)
	if err != nil {
		return err
	}
	if err := f(Node{".", 0, img, root}); err != nil {
		return err
	}
	w := walker{img: img, f: f, seen: map[uint32]*inode{}, dirs: map[uint32]bool{}, todo: []walkedDir{{".", root}}}
	for len(w.todo) > 0 {
		d := w.todo[len(w.todo)-1]
		w.todo = w.todo[:len(w.todo)-1]
		if err := w.dir(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) dir(ctx context.Context, d walkedDir) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.bytes += d.in.size; w.bytes > maxDirBytes {
		return corrupt("its directories have more than %d bytes", int64(maxDirBytes))
	}
	list, err := w.img.children(d.in)
	if err != nil {
		return pathError("walk", d.name, err)
	}
	if w.names += len(list); w.names > maxNames {
		return corrupt("it has more than %d names", maxNames)
	}
	for i, e := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := CheckPath(d.name, e.name); err != nil {
			return err
		}
		name := path.Join(d.name, e.name)
		if w.paths += int64(len(name)); w.paths > maxPaths {
			return corrupt("its paths have more than %d bytes", maxPaths)
		}
		in, err := w.entry(d, e)
		if err != nil {
			return pathError("walk", name, err)
		}
		if in.typ() == fs.ModeDir {
			w.todo = append(w.todo, walkedDir{name, in})
		}
		if err := w.f(Node{name, i, w.img, in}); err != nil {
			return err
		}
	}
	return nil
}

// entry reads the inode of an entry. A directory must say that it is where it was found, and is found once.
func (w *walker) entry(d walkedDir, e dirent) (*inode, error) {
	if w.dirs[e.num] {
		return nil, twice(e.num)
	}
	if in := w.seen[e.num]; in != nil { // a hard link
		return in, nil
	}
	in, err := w.img.inode(e.num)
	if err != nil {
		return nil, err
	}
	if w.seen[e.num] = in; in.typ() != fs.ModeDir {
		return in, nil
	}
	w.dirs[e.num] = true
	if up, err := w.img.parent(in); err != nil || up != d.in.num {
		return nil, errors.Join(corrupt("directory %d says that it is not in directory %d", e.num, d.in.num), err)
	}
	return in, nil
}
