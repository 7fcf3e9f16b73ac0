package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
)

// makeInitramfs writes a tree as what the kernel unpacks into memory: an archive of the kernel's own form of cpio
// (Documentation/driver-api/early-userspace/buffer-format.rst), compressed with gzip, which every kernel undoes that
// was configured to. It needs no container.
func (m Maker) makeInitramfs(ctx context.Context, t *tree, file string) (err error) {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(file))
		}
	}()
	z := gzip.NewWriter(f)      // in one goroutine, and without a name: the same bytes for the same tree
	z.ModTime = time.Unix(0, 0) // no time: RFC 1952
	c := &cpioWriter{w: z}
	if err := c.tree(ctx, t); err != nil {
		return err
	}
	if len(c.without) > 0 {
		m.warn(withoutCapabilities("an initramfs", c.without))
	}
	if err := z.Close(); err != nil {
		return err
	}
	return f.Sync()
}

// cpioWriter writes the form that cpio calls newc.
type cpioWriter struct {
	w       io.Writer
	n       int64    // bytes so far
	ino     int      // of the last file
	without []string // files whose capabilities it has no place for
}

// fileTypes are the types of files in st_mode.
var fileTypes = map[byte]int64{
	tar.TypeFifo: 0o010000, tar.TypeChar: 0o020000, tar.TypeDir: 0o040000, tar.TypeBlock: 0o060000,
	tar.TypeReg: 0o100000, tar.TypeSymlink: 0o120000,
}

// tree writes a whole tree, sorted, and the archive's end.
func (c *cpioWriter) tree(ctx context.Context, t *tree) error {
	t.canonicalLinks()
	names := map[string]int{} // how many a file has
	for _, n := range t.nodes {
		if n.typ == tar.TypeLink {
			names[n.link]++
		}
	}
	inos := map[string]int{}
	for _, n := range t.sorted() {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		of := n
		if n.typ == tar.TypeLink {
			of = t.nodes[n.link] // which came before: it is the first of its names
		} else {
			c.ino++
			inos[n.name] = c.ino
		}
		nlink := 1 + names[of.name]
		if n.typ == tar.TypeDir {
			nlink = 2
		}
		if err := c.node(t, n, of, inos[of.name], nlink); err != nil {
			return fmt.Errorf("write %s: %w", n.name, err)
		}
	}
	return c.header("TRAILER!!!", &node{}, 0, 0, 1, 0)
}

// node writes a name. of is the file that it leads to; the content is with the first name of a file.
func (c *cpioWriter) node(t *tree, n, of *node, ino, nlink int) error {
	if len(n.xattr) > 0 {
		c.without = append(c.without, "/"+n.name)
	}
	size := int64(0)
	switch n.typ {
	case tar.TypeReg:
		size = n.size
	case tar.TypeSymlink:
		size = int64(len(n.link))
	}
	if err := c.header(n.name, of, fileTypes[of.typ]|of.mode, ino, nlink, size); err != nil {
		return err
	}
	var err error
	switch {
	case n.typ == tar.TypeSymlink:
		err = c.write(strings.NewReader(n.link), size)
	case n.typ == tar.TypeReg:
		err = c.write(t.open(n), size)
	}
	return err
}

// maxCpioFile is the most that a field of 8 hexadecimal digits counts.
const maxCpioFile = 1<<32 - 1

func (c *cpioWriter) header(name string, n *node, mode int64, ino, nlink int, size int64) error {
	if size > maxCpioFile {
		return fmt.Errorf("it has %d bytes, and an initramfs takes files of %d: %w", size, maxCpioFile, fs.ErrInvalid)
	}
	h := "070701"
	for _, field := range []int64{int64(ino), mode, int64(n.uid), int64(n.gid), int64(nlink), max(n.mtime.Unix(), 0),
		size, 0, 0, n.major, n.minor, int64(len(name) + 1), 0} {
		h += fmt.Sprintf("%08x", field)
	}
	h += name + "\x00"
	return c.write(strings.NewReader(h), int64(len(h)))
}

// write writes size bytes and fills up to a multiple of four.
func (c *cpioWriter) write(r io.Reader, size int64) error {
	n, err := io.Copy(c.w, r)
	c.n += n
	if err == nil && n != size {
		err = fmt.Errorf("it has %d bytes, want %d", n, size)
	}
	if rest := c.n % 4; err == nil && rest > 0 {
		c.n += 4 - rest
		_, err = io.WriteString(c.w, "\x00\x00\x00"[:4-rest])
	}
	return err
}
