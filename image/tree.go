package image

import (
	"archive/tar"
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits on the tree that a tar may hold. Both are far above any distribution's
// and far below what would fill a host's memory.
const (
	maxEntries = 4 << 20 // inodes are some 100 bytes each here
	maxRewrite = 1 << 20 // bytes of a file whose content is read into memory
	maxSymlink = 40      // links followed on the way to one path, as in the kernel
)

// node is one name in a tree. Names are clean, relative and slash-separated; the
// root is ".". Hard links share the content of the name that link gives.
type node struct {
	name  string
	typ   byte // a tar type flag: TypeReg, TypeDir, TypeSymlink, TypeLink, TypeChar, TypeBlock, TypeFifo
	mode  int64
	uid   int
	gid   int
	mtime time.Time
	link  string // of a symlink its text, of a hard link the first name
	major int64
	minor int64
	xattr map[string]string // PAX records that begin with xattrPrefix

	size int64
	at   int64  // where the content begins in the spool
	data []byte // the content, when it is not in the spool
}

// tree is a root filesystem in memory, its file contents in one spool file.
type tree struct {
	nodes map[string]*node
	spool *os.File
	end   int64 // the spool's length
}

// xattrPrefix marks extended attributes in PAX records, as GNU tar, star and libarchive write them.
const xattrPrefix = "SCHILY.xattr."

// newTree makes an empty tree with its spool in dir (empty: os.TempDir).
func newTree(dir string) (*tree, error) {
	f, err := os.CreateTemp(dir, "kimg-tree-*")
	if err != nil {
		return nil, fmt.Errorf("create the tree's spool: %w", err)
	}
	// Without a name nothing can be left behind, however kimg ends.
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("unlink the tree's spool: %w", err), f.Close())
	}
	return &tree{nodes: map[string]*node{}, spool: f}, nil
}

func (t *tree) close() error { return t.spool.Close() }

// readTar reads a raw tar into a new tree. The tar comes out of a container in which package scripts ran as root,
// so it is not trusted: names that leave the tree, names that come twice, children of what is not a directory and
// hard links to nowhere are errors.
func readTar(r io.Reader, spoolDir string) (_ *tree, err error) {
	t, err := newTree(spoolDir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	if err := t.takeAll(r); err != nil {
		return nil, err
	}
	return t, t.check()
}

// takeAll adds the entries of a tar, none of which is held against another yet.
func (t *tree) takeAll(r io.Reader) error {
	tr := tar.NewReader(bufio.NewReaderSize(r, 256<<10))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
		if err := t.take(h, tr); err != nil {
			return fmt.Errorf("read tar: %q: %w", h.Name, err)
		}
	}
	// tar pads its last record, and must be able to write it.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return fmt.Errorf("read tar: %w", err)
	}
	return nil
}

// take adds one entry of a tar.
func (t *tree) take(h *tar.Header, r io.Reader) error {
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if t.nodes[name] != nil {
		return errors.New("comes twice, as tar -r and -u leave what has changed: pack the whole anew")
	}
	if len(t.nodes) >= maxEntries {
		return fmt.Errorf("more than %d files", maxEntries)
	}
	n := &node{name: name, typ: h.Typeflag, mode: h.Mode & 0o7777, uid: h.Uid, gid: h.Gid, mtime: h.ModTime}
	for k, v := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			// A few bytes can stand for petabytes of zeros; the bootstrap's tar writes none.
			return errors.New("is a sparse file, of which tar wrote the holes: pack it without --sparse")
		}
		if strings.HasPrefix(k, xattrPrefix) {
			if n.xattr == nil {
				n.xattr = map[string]string{}
			}
			n.xattr[k] = v
		}
	}
	switch h.Typeflag {
	case tar.TypeReg:
		n.at, n.size = t.end, h.Size
		c, err := io.Copy(io.NewOffsetWriter(t.spool, t.end), r)
		if err != nil {
			return err
		}
		t.end += c
	case tar.TypeDir, tar.TypeFifo:
	case tar.TypeSymlink:
		if n.link = h.Linkname; n.link == "" {
			return errors.New("is a symbolic link to nothing")
		}
		n.mode = 0o777
	case tar.TypeLink:
		if n.link, err = cleanName(h.Linkname); err != nil {
			return fmt.Errorf("hard link: %w", err)
		}
	case tar.TypeChar, tar.TypeBlock:
		n.major, n.minor = h.Devmajor, h.Devminor
	default:
		return fmt.Errorf("has the unknown type %q", h.Typeflag)
	}
	t.nodes[name] = n
	return nil
}

// cleanName checks a name from a tar. ./ in front and / at the end are usual.
func cleanName(s string) (string, error) {
	c := strings.TrimSuffix(strings.TrimPrefix(s, "./"), "/")
	if c == "" {
		c = "."
	}
	switch {
	case !utf8.ValidString(s):
		return "", fmt.Errorf("name %q is not UTF-8", s)
	case strings.HasPrefix(s, "/"):
		return "", fmt.Errorf("name %q begins with a slash, as tar -P has it: pack it without", s)
	}
	// fs.ValidPath refuses empty elements, "." and "..".
	if !fs.ValidPath(c) || strings.Contains(c, "\x00") {
		return "", fmt.Errorf("name %q leaves the tree or is not clean", s)
	}
	return c, nil
}

// check holds what a single entry cannot show: parents are directories and hard links lead to files.
func (t *tree) check() error {
	if t.nodes["."] == nil {
		t.nodes["."] = &node{name: ".", typ: tar.TypeDir, mode: 0o755}
	}
	for name, n := range t.nodes {
		if name != "." {
			if p := t.nodes[path.Dir(name)]; p == nil || p.typ != tar.TypeDir {
				return fmt.Errorf("read tar: %q: its parent is not a directory", name)
			}
		} else if n.typ != tar.TypeDir {
			return errors.New("read tar: the root is not a directory")
		}
		if n.typ == tar.TypeLink {
			if to := t.nodes[n.link]; to == nil || to.typ == tar.TypeDir || to.typ == tar.TypeLink {
				return fmt.Errorf("read tar: %q: hard link to %q, which is not a file of this tar", name, n.link)
			}
		}
	}
	return nil
}

// remove takes a name out of the tree. When other names are hard links to it, the
// first of them in order becomes the file.
func (t *tree) remove(name string) {
	n := t.nodes[name]
	delete(t.nodes, name)
	if n == nil || n.typ == tar.TypeDir || n.typ == tar.TypeLink {
		return
	}
	t.promote(n, t.linksTo(name))
}

func (t *tree) linksTo(name string) []string {
	var links []string
	for _, m := range t.nodes {
		if m.typ == tar.TypeLink && m.link == name {
			links = append(links, m.name)
		}
	}
	slices.Sort(links)
	return links
}

// promote makes the first of names the file that n was and the others links to it.
func (t *tree) promote(n *node, names []string) {
	if len(names) == 0 {
		return
	}
	first := *n
	first.name = names[0]
	t.nodes[names[0]] = &first
	for _, l := range names[1:] {
		t.nodes[l].link = names[0]
	}
}

// canonicalLinks makes the first name in order of every group of hard links the file, so that a link's target comes
// first in the sorted tar and the choice does not hang on the order in which a directory was read.
func (t *tree) canonicalLinks() {
	groups := map[string][]string{}
	for _, n := range t.nodes {
		if n.typ == tar.TypeLink {
			groups[n.link] = append(groups[n.link], n.name)
		}
	}
	for target, links := range groups {
		slices.Sort(links)
		if target < links[0] {
			continue
		}
		n := t.nodes[target]
		t.promote(n, links)
		t.nodes[target] = &node{name: target, typ: tar.TypeLink, link: links[0]}
	}
}

// content returns a small file's bytes.
func (t *tree) content(n *node) ([]byte, error) {
	if n.typ != tar.TypeReg || n.size > maxRewrite {
		return nil, fmt.Errorf("read %s: not a file of at most %d bytes", n.name, maxRewrite)
	}
	if n.data != nil || n.size == 0 {
		return n.data, nil
	}
	b := make([]byte, n.size)
	_, err := t.spool.ReadAt(b, n.at)
	return b, err
}

// setContent replaces a file's bytes.
func (n *node) setContent(b []byte) { n.data, n.size, n.at = b, int64(len(b)), 0 }

// resolve follows the symbolic links among the parents of name, as a kernel that
// had this tree as its root would: /lib/x is at usr/lib/x where /usr is merged.
func (t *tree) resolve(name string) (string, error) {
	return t.walk(name, maxSymlink)
}

func (t *tree) walk(name string, budget int) (string, error) {
	dir, todo := ".", strings.Split(name, "/")
	for i, elem := range todo {
		p := path.Join(dir, elem)
		n := t.nodes[p]
		if i == len(todo)-1 || n == nil || n.typ != tar.TypeSymlink {
			dir = p
			continue
		}
		if budget--; budget < 0 {
			return "", fmt.Errorf("resolve %s: too many symbolic links", name)
		}
		to := n.link
		if !path.IsAbs(to) {
			to = "/" + path.Join(dir, to)
		}
		rest := append([]string{strings.TrimPrefix(path.Clean(to), "/")}, todo[i+1:]...)
		return t.walk(path.Join(rest...), budget)
	}
	return dir, nil
}

// put adds or replaces a name and makes the directories above it.
func (t *tree) put(n *node) error {
	name, err := t.resolve(n.name)
	if err != nil {
		return err
	}
	n.name = name
	for p := path.Dir(name); p != "."; p = path.Dir(p) {
		if d := t.nodes[p]; d == nil {
			t.nodes[p] = &node{name: p, typ: tar.TypeDir, mode: 0o755, mtime: n.mtime}
		} else if d.typ != tar.TypeDir {
			return fmt.Errorf("add %s: %s is not a directory", n.name, p)
		}
	}
	if old := t.nodes[name]; old != nil {
		if n.typ == tar.TypeDir && old.typ == tar.TypeDir {
			n.xattr = old.xattr
		} else if old.typ == tar.TypeDir {
			return fmt.Errorf("add %s: a directory is in its place", n.name)
		} else {
			t.remove(name)
		}
	}
	t.nodes[name] = n
	return nil
}

// write emits the tree as a sorted tar with numeric owners only.
func (t *tree) write(w io.Writer) error {
	t.canonicalLinks()
	tw := tar.NewWriter(w)
	for _, n := range t.sorted() {
		of := n // whose owner, mode and time the entry carries
		if n.typ == tar.TypeLink {
			of = t.nodes[n.link] // mke2fs gives the file what its last link says
		}
		h := &tar.Header{Typeflag: n.typ, Name: "./" + n.name, Mode: of.mode, Uid: of.uid, Gid: of.gid,
			ModTime: of.mtime, Devmajor: n.major, Devminor: n.minor}
		switch n.typ {
		case tar.TypeReg:
			h.Size = n.size
		case tar.TypeDir:
			h.Name = strings.TrimSuffix(h.Name, ".") // the root is "./"
			h.Name = strings.TrimSuffix(h.Name, "/") + "/"
		case tar.TypeSymlink:
			h.Linkname = n.link
		case tar.TypeLink:
			h.Linkname = "./" + n.link
		}
		if len(n.xattr) > 0 {
			h.PAXRecords = maps.Clone(n.xattr)
		}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("write %s: %w", n.name, err)
		}
		if n.typ != tar.TypeReg {
			continue
		}
		if _, err := io.Copy(tw, t.open(n)); err != nil {
			return fmt.Errorf("write %s: %w", n.name, err)
		}
	}
	return tw.Close()
}

// sorted orders by name, byte by byte; a directory comes before what is in it.
func (t *tree) sorted() []*node {
	key := func(n *node) string {
		if n.name == "." {
			return ""
		}
		return n.name
	}
	return slices.SortedFunc(maps.Values(t.nodes), func(a, b *node) int { return cmp.Compare(key(a), key(b)) })
}
