package ext4

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"
)

type dirent struct {
	name string
	num  uint32
}

const (
	direntHeader = 8
	fileTypeDir  = 2
	maxDir       = 64 << 20 // bytes of a directory that is read: a million names and more
)

// each calls f for every entry of a directory, "." and ".." included, until f returns false. It reads the blocks
// one by one: the hash tree's own nodes look like unused entries (the kernel's
// Documentation/filesystems/ext4/directory.rst), so htree needs nothing of it.
func (img *Image) each(in *inode, f func(name []byte, num uint32, typ byte) bool) error {
	if in.typ() != fs.ModeDir {
		return errors.New("not a directory")
	}
	b, err := img.readAll(in, maxDir)
	if err != nil {
		return err
	}
	if in.flags&inodeFlagInlineData != 0 {
		// The parent's number, entries to the end of the map's room, then more of them.
		if len(b) < 4 {
			return corrupt("directory %d has %d bytes", in.num, len(b))
		}
		cut := max(4, min(len(b), len(in.block)))
		if !f([]byte("."), in.num, fileTypeDir) || !f([]byte(".."), le.Uint32(b), fileTypeDir) {
			return nil
		}
		more, err := eachIn(b[4:cut], in.num, f)
		if err != nil || !more {
			return err
		}
		_, err = eachIn(b[cut:], in.num, f)
		return err
	}
	if int64(len(b))%img.sb.BlockSize != 0 {
		return corrupt("directory %d has %d bytes", in.num, len(b))
	}
	for blk := range slices.Chunk(b, int(img.sb.BlockSize)) {
		if more, err := eachIn(blk, in.num, f); err != nil || !more {
			return err
		}
	}
	return nil
}

// eachIn calls f for the entries of one block, and reports whether f wants more.
func eachIn(b []byte, dir uint32, f func(name []byte, num uint32, typ byte) bool) (bool, error) {
	for len(b) > 0 {
		if len(b) < direntHeader {
			return false, corrupt("directory %d has a piece of an entry", dir)
		}
		num, rec, n := le.Uint32(b), int(le.Uint16(b[4:])), int(b[6])
		if len(b) == maxBlock && (rec == maxBlock-1 || rec == 0) { // 65536 does not fit its 16 bits
			rec = maxBlock
		}
		if rec < direntHeader+n || rec%4 != 0 || rec > len(b) {
			return false, corrupt("directory %d has an entry of %d bytes", dir, rec)
		}
		if num != 0 {
			name := b[direntHeader : direntHeader+n]
			if len(name) == 0 || bytes.ContainsAny(name, "/\x00") {
				return false, corrupt("directory %d has the name %q", dir, name)
			}
			if !f(name, num, b[7]) {
				return false, nil
			}
		}
		b = b[rec:]
	}
	return true, nil
}

// children returns a directory's names without "." and "..". No entry leads back to the directory or to the root. That
// no directory is in another twice the caller checks by the inodes: an entry's type may lie.
func (img *Image) children(in *inode) ([]dirent, error) {
	var out []dirent
	var bad error
	err := img.each(in, func(name []byte, num uint32, _ byte) bool {
		switch n := string(name); {
		case n == "." || n == "..":
			return true
		case num == rootInode || num == in.num:
			bad = corrupt("directory %d has a loop at %q", in.num, n)
		default:
			out = append(out, dirent{n, num})
		}
		return bad == nil
	})
	return out, errors.Join(err, bad)
}

// twice is a directory that has two names. Whoever followed both would not end.
func twice(num uint32) error { return corrupt("directory %d is there twice", num) }

// find returns the inode number of one name in a directory, or fs.ErrNotExist.
func (img *Image) find(in *inode, name string) (uint32, error) {
	if num, ok, known := img.names.get(in.num, name); known {
		if !ok {
			return 0, fs.ErrNotExist
		}
		return num, nil
	}
	names := map[string]uint32{}
	err := img.each(in, func(n []byte, num uint32, _ byte) bool {
		if _, ok := names[string(n)]; !ok { // of two, the kernel finds the first
			names[string(n)] = num
		}
		return true
	})
	if err != nil {
		return 0, err
	}
	img.names.put(in.num, names)
	num, ok := names[name]
	if !ok {
		return 0, fs.ErrNotExist
	}
	return num, nil
}

// parent returns the number that a directory has for "..", 0 where it has none: it is in the first block.
func (img *Image) parent(in *inode) (uint32, error) {
	if in.typ() != fs.ModeDir {
		return 0, errors.New("not a directory")
	}
	if in.flags&inodeFlagInlineData != 0 {
		return le.Uint32(in.block[:]), nil
	}
	c, err := img.open(in)
	if err != nil {
		return 0, err
	}
	b := make([]byte, img.sb.BlockSize)
	if c.size < int64(len(b)) {
		return 0, corrupt("directory %d has %d bytes", in.num, c.size)
	}
	if _, err := c.ReadAt(b, 0); err != nil && err != io.EOF {
		return 0, err
	}
	var up uint32
	_, err = eachIn(b, in.num, func(n []byte, num uint32, _ byte) bool {
		if string(n) == ".." {
			up = num
		}
		return up == 0
	})
	return up, err
}

// nameCache keeps the names of the directories that were used last: a directory is not read for each of its files.
type nameCache struct {
	mu   sync.Mutex
	dirs map[uint32]map[string]uint32
	size int // names in all
}

// maxCached bounds a cache, in names; a single larger directory is kept alone.
const maxCached = 1 << 17

func (c *nameCache) get(dir uint32, name string) (num uint32, ok, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	names, known := c.dirs[dir]
	num, ok = names[name]
	return num, ok, known
}

func (c *nameCache) put(dir uint32, names map[string]uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dirs == nil || c.size+len(names) > maxCached {
		c.dirs, c.size = map[uint32]map[string]uint32{}, 0
	}
	c.dirs[dir] = names
	c.size += len(names)
}

func (img *Image) child(in *inode, name string) (*inode, error) {
	if in.typ() != fs.ModeDir {
		return nil, fs.ErrNotExist
	}
	num, err := img.find(in, name)
	if err != nil {
		return nil, err
	}
	c, err := img.inode(num)
	if err != nil || c.typ() != fs.ModeDir {
		return c, err
	}
	if up, err := img.parent(c); err != nil || up != in.num {
		return nil, errors.Join(corrupt("directory %d says that it is not in directory %d", c.num, in.num), err)
	}
	return c, nil
}

func (img *Image) list(in *inode) ([]fs.DirEntry, error) {
	l, err := img.children(in)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(l, func(a, b dirent) int { return strings.Compare(a.name, b.name) })
	out, dirs := make([]fs.DirEntry, 0, len(l)), map[uint32]bool{}
	for _, e := range l {
		c, err := img.inode(e.num)
		if err != nil {
			return nil, err
		}
		if c.typ() == fs.ModeDir {
			if dirs[e.num] {
				return nil, twice(e.num)
			}
			dirs[e.num] = true
		}
		out = append(out, fs.FileInfoToDirEntry(info{e.name, c}))
	}
	return out, nil
}

func (img *Image) target(in *inode) (string, error) {
	if in.typ() != fs.ModeSymlink {
		return "", fs.ErrInvalid
	}
	if in.size == 0 || in.size > img.sb.BlockSize {
		return "", corrupt("symbolic link %d has %d bytes", in.num, in.size)
	}
	// Shorter than the map's room, the text is in its place (libext2fs's ext2fs_is_fast_symlink).
	if in.size < int64(len(in.block)) && in.flags&inodeFlagInlineData == 0 {
		return string(in.block[:in.size]), nil
	}
	b, err := img.readAll(in, img.sb.BlockSize)
	return string(b), err
}

// Stat is what info.Sys holds: an inode's fields that io/fs has no word for.
type Stat struct {
	Inode                      uint32
	UID, GID                   uint32
	Links                      int
	Flags                      uint32
	Generation                 uint32
	Blocks                     int64     // units of 512 bytes
	Accessed, Changed, Created time.Time // Created is zero in inodes of 128 bytes
	Major, Minor               uint32    // of a device
}

type info struct {
	name string
	in   *inode
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.in.size }
func (i info) ModTime() time.Time { return i.in.mtime }
func (i info) IsDir() bool        { return i.in.typ() == fs.ModeDir }

func (i info) Mode() fs.FileMode {
	m := i.in.typ() | fs.FileMode(i.in.mode&0o777)
	for bit, f := range map[uint16]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if i.in.mode&bit != 0 {
			m |= f
		}
	}
	return m
}

func (i info) Sys() any {
	s := &Stat{Inode: i.in.num, UID: i.in.uid, GID: i.in.gid, Links: int(i.in.links), Flags: i.in.flags,
		Generation: i.in.gen, Blocks: i.in.blocks,
		Accessed: i.in.atime, Changed: i.in.ctime, Created: i.in.crtime}
	if i.in.typ()&fs.ModeDevice != 0 {
		// The old form in the first word, else the new one in the second (old_decode_dev, new_decode_dev).
		if d := le.Uint32(i.in.block[:]); d != 0 {
			s.Major, s.Minor = d>>8&0xFF, d&0xFF
		} else {
			d := le.Uint32(i.in.block[4:])
			s.Major, s.Minor = d>>8&0xFFF, d&0xFF|d>>12&0xFFF00
		}
	}
	return s
}

type file struct {
	info
	img *Image
	r   *io.SectionReader
	dir []fs.DirEntry
	at  int
}

func baseName(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

func (f *file) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *file) Close() error               { return nil }

func (f *file) Read(p []byte) (int, error) {
	if f.in.typ() != 0 {
		return 0, pathError("read", f.name, errors.New("not a regular file"))
	}
	if f.r == nil {
		c, err := f.img.open(f.in)
		if err != nil {
			return 0, pathError("read", f.name, err)
		}
		f.r = io.NewSectionReader(c, 0, c.size)
	}
	return f.r.Read(p)
}

// ReadDir is fs.ReadDirFile's.
func (f *file) ReadDir(n int) ([]fs.DirEntry, error) {
	if f.dir == nil {
		l, err := f.img.list(f.in)
		if err != nil {
			return nil, pathError("readdir", f.name, err)
		}
		f.dir = l
	}
	rest := f.dir[f.at:]
	if n > 0 {
		if len(rest) == 0 {
			return nil, io.EOF
		}
		rest = rest[:min(n, len(rest))]
	}
	f.at += len(rest)
	return rest, nil
}
