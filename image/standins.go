package image

import (
	"archive/tar"
	"cmp"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/kimg/kimg/internal/stamp"
)

// marked are a tree's files in order, hard links aside. Where a tool cannot take their owners and the like along, it
// gets stand-ins, and the mark of each is its place here, from 1 on.
type marked struct {
	files []*node
	marks map[string]int // of each name, a hard link's included
}

func (t *tree) marked() marked {
	t.canonicalLinks()
	m := marked{marks: map[string]int{}}
	for _, n := range t.sorted() {
		if n.typ == tar.TypeLink {
			m.marks[n.name] = m.marks[n.link]
			continue
		}
		m.files = append(m.files, n)
		m.marks[n.name] = len(m.files)
	}
	return m
}

// inodes are what the stand-ins become.
func (m marked) inodes() []stamp.Inode {
	list := make([]stamp.Inode, len(m.files))
	for i, n := range m.files {
		list[i] = stamp.Inode{Mode: uint32(fileTypes[n.typ] | n.mode), UID: uint32(n.uid), GID: uint32(n.gid),
			Major: uint32(n.major), Minor: uint32(n.minor), Time: n.mtime}
		if n.typ == tar.TypeSymlink {
			list[i].Link = n.link
		}
	}
	return list
}

// nested orders a tree so that what is in a directory comes next to it: a/x before a-b, which sorts before it. GNU tar
// gives a directory its time as soon as it meets a name elsewhere.
func (t *tree) nested() []*node {
	key := func(n *node) string {
		if n.name == "." {
			return ""
		}
		return strings.ReplaceAll(n.name, "/", "\x00")
	}
	return slices.SortedFunc(maps.Values(t.nodes), func(a, b *node) int { return cmp.Compare(key(a), key(b)) })
}

// standIns writes the tar of a tree that an ordinary user can unpack: plain files and directories of root's, empty
// files for devices and pipes, and the mark of each as its time in seconds.
func standIns(t *tree, w io.Writer) error {
	return unpackable(t, w, func(h *tar.Header, mark int) {
		h.Mode, h.ModTime = 0o644, time.Unix(int64(mark), 0)
		switch h.Typeflag {
		case tar.TypeDir:
			h.Mode = 0o755
		case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
			h.Typeflag, h.Devmajor, h.Devminor = tar.TypeReg, 0, 0
		}
		h.Uid, h.Gid = 0, 0
	})
}

// asIs writes the tar of a tree for fakeroot to unpack.
func asIs(t *tree, w io.Writer) error { return unpackable(t, w, func(*tar.Header, int) {}) }

// unpackable writes the tar of a tree in an order that GNU tar unpacks right, each of its headers changed by edit.
func unpackable(t *tree, w io.Writer, edit func(h *tar.Header, mark int)) error {
	m := t.marked()
	first := make([]string, len(m.files)) // the name that came first of each file
	tw := tar.NewWriter(w)
	for _, n := range t.nested() {
		mark := m.marks[n.name]
		of := m.files[mark-1]
		h := &tar.Header{Typeflag: of.typ, Name: "./" + n.name, Mode: of.mode, Uid: of.uid, Gid: of.gid,
			ModTime: of.mtime, Devmajor: of.major, Devminor: of.minor, PAXRecords: of.xattr, Size: of.size}
		switch {
		case first[mark-1] != "":
			h.Typeflag, h.Linkname, h.Size, h.PAXRecords = tar.TypeLink, first[mark-1], 0, nil
			of = &node{name: n.name, typ: tar.TypeLink} // its content came before
		case of.typ == tar.TypeSymlink:
			h.Linkname = of.link
		case of.typ == tar.TypeDir:
			h.Name = strings.TrimSuffix(h.Name, ".")
		}
		first[mark-1] = cmp.Or(first[mark-1], h.Name)
		edit(h, mark)
		if err := putTar(tw, h, t, of); err != nil {
			return err
		}
	}
	return tw.Close()
}

// putTar writes an entry, with the content of a regular file.
func putTar(tw *tar.Writer, h *tar.Header, t *tree, n *node) error {
	err := tw.WriteHeader(h)
	if err == nil && n.typ == tar.TypeReg {
		_, err = io.Copy(tw, t.open(n))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", n.name, err)
	}
	return nil
}

// NameError is a name that the tool of a file system cannot take.
type NameError struct {
	Name string // in the tree, with a slash in front
	Why  string
}

func (e *NameError) Error() string { return fmt.Sprintf("%q: %s", e.Name, e.Why) }

// Hint says what does.
func (e *NameError) Hint() string {
	return "give it another name, or take another file system: --fs ext4 takes any"
}

// prototype writes a tar of the file proto, which mkfs.xfs makes a tree from; of links, by which xfs_db makes what
// proto has no words for; and of the contents, which proto names f/MARK. The mark of each file is its user.
func prototype(t *tree, w io.Writer) error {
	m := t.marked()
	var proto, renames, links strings.Builder
	proto.WriteString("- 0 0\n") // what was a boot loader, and two numbers that nobody reads
	open := []string{}           // the directories that the text is in
	for _, n := range t.nested() {
		if err := plainXFS(n); err != nil {
			return err
		}
		for len(open) > 0 && open[len(open)-1] != path.Dir(n.name) {
			proto.WriteString("$\n")
			open = open[:len(open)-1]
		}
		mark, base := m.marks[n.name], strings.ReplaceAll(path.Base(n.name), " ", "/")
		if unlisted(n) {
			base = t.unused(n.name)
			above := "/" + strings.TrimPrefix(path.Dir(n.name), ".")
			fmt.Fprintf(&renames, "path %s\nlink -p %s -- %s\nunlink -- %s\n", above, path.Join(above, base),
				path.Base(n.name), base)
		}
		if n.name != "." && n.typ != tar.TypeLink {
			proto.WriteString(base + " ")
		}
		switch n.typ {
		case tar.TypeLink:
			fmt.Fprintf(&links, "path /%s\nlink -p /%s -- %s\n", strings.TrimPrefix(path.Dir(n.name), "."), n.link,
				path.Base(n.name))
		case tar.TypeReg:
			fmt.Fprintf(&proto, "---644 %d 0 f/%d\n", mark, mark)
		case tar.TypeDir:
			fmt.Fprintf(&proto, "d--755 %d 0\n", mark)
			open = append(open, n.name)
		case tar.TypeSymlink:
			text := n.link
			if strings.ContainsAny(text, " \t\n:") {
				text = strings.Repeat("x", len(text)) // which the stamp makes right
			}
			fmt.Fprintf(&proto, "l--777 %d 0 %s\n", mark, text)
		case tar.TypeChar, tar.TypeBlock:
			typ := map[byte]byte{tar.TypeChar: 'c', tar.TypeBlock: 'b'}[n.typ]
			fmt.Fprintf(&proto, "%c--644 %d 0 %d %d\n", typ, mark, n.major, n.minor)
		case tar.TypeFifo:
			fmt.Fprintf(&proto, "p--644 %d 0\n", mark)
		}
	}
	proto.WriteString(strings.Repeat("$\n", len(open)))
	tw := tar.NewWriter(w)
	for _, f := range []struct{ name, text string }{{"proto", proto.String()},
		{"links", renames.String() + links.String()}} {
		n := &node{name: f.name, typ: tar.TypeReg}
		n.setContent([]byte(f.text))
		h := &tar.Header{Typeflag: n.typ, Name: n.name, Mode: 0o644, Size: n.size}
		if err := putTar(tw, h, t, n); err != nil {
			return err
		}
	}
	for i, n := range m.files {
		if n.typ != tar.TypeReg {
			continue
		}
		h := &tar.Header{Typeflag: n.typ, Name: fmt.Sprintf("f/%d", i+1), Mode: 0o644, Size: n.size,
			PAXRecords: n.xattr}
		if err := putTar(tw, h, t, n); err != nil {
			return err
		}
	}
	return tw.Close()
}

// unlisted says that mkfs.xfs takes a name for something else than one: xfs_db gives it later.
func unlisted(n *node) bool {
	base := path.Base(n.name)
	return n.typ != tar.TypeLink && (base == "$" || strings.HasPrefix(base, ":"))
}

// unused is a plain name that nothing beside a file has.
func (t *tree) unused(name string) string {
	base := "kimg"
	for t.nodes[path.Join(path.Dir(name), base)] != nil {
		base += "-"
	}
	return base
}

// longInline is the longest text of a link that XFS has in the inode.
const longInline = 512 - 176

// plainXFS refuses what a prototype file, or a command of xfs_db, takes for something else.
func plainXFS(n *node) error {
	base := path.Base(n.name)
	switch {
	case strings.ContainsAny(base, "\t\n"), unlisted(n) && n.typ == tar.TypeDir:
		return &NameError{"/" + n.name, "the list by which mkfs.xfs makes files has no way to write such a name"}
	case (n.typ == tar.TypeLink || unlisted(n)) && strings.ContainsAny(n.name+n.link, " \"\\"):
		return &NameError{"/" + n.name, "xfs_db, which makes hard links and names that begin with a colon in XFS, " +
			"takes no blank, quote or backslash in one"}
	case n.typ == tar.TypeSymlink && len(n.link) > longInline && strings.ContainsAny(n.link, " \t\n:"):
		return &NameError{"/" + n.name, "the list by which mkfs.xfs makes files has no way to write where it leads to"}
	}
	return nil
}

// OwnerError is an owner that the tool of a file system cannot give a file.
type OwnerError struct {
	Name     string // in the tree, with a slash in front
	UID, GID int
}

func (e *OwnerError) Error() string {
	return fmt.Sprintf("%s belongs to %d:%d, and sload.f2fs writes numbers of users and groups up to %d", e.Name, e.UID,
		e.GID, maxShortOwner)
}

// Hint says what does.
func (e *OwnerError) Hint() string { return "take another file system: --fs ext4 takes any owner" }

const maxShortOwner = 1<<16 - 1

// shortOwners refuses owners that do not fit 16 bits.
func (t *tree) shortOwners() error {
	for _, n := range t.sorted() {
		if n.typ != tar.TypeLink && (n.uid > maxShortOwner || n.gid > maxShortOwner) {
			return &OwnerError{"/" + n.name, n.uid, n.gid}
		}
	}
	return nil
}

// withoutDevices takes devices and pipes out of a tree, and says which these were.
func (t *tree) withoutDevices() (names []string) {
	for _, n := range t.sorted() {
		if n.typ == tar.TypeChar || n.typ == tar.TypeBlock || n.typ == tar.TypeFifo {
			names = append(names, "/"+n.name)
			t.remove(n.name)
		}
	}
	return names
}

// withoutCapabilities takes the files' capabilities, and says whose these were.
func (t *tree) withoutCapabilities() (names []string) {
	for _, n := range t.sorted() {
		if len(n.xattr) > 0 {
			names = append(names, "/"+n.name)
			n.xattr = nil
		}
	}
	return names
}

// size is what a tree takes.
func (t *tree) size() treeSize {
	s := treeSize{inodes: reservedInodes, blocks: lostAndFound}
	for _, n := range t.nodes {
		s.add(&tar.Header{Typeflag: n.typ, Size: n.size, Linkname: n.link, PAXRecords: n.xattr})
		if n.typ == tar.TypeDir {
			s.blocks++
		}
	}
	return s
}
