package compare

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kimg/kimg/ext4"
)

// isImage looks for ext4's magic number.
func isImage(t thing, head []byte) bool {
	return t.depth == 0 && len(head) > 1024+0x3A && head[1024+0x38] == 0x53 && head[1024+0x39] == 0xEF
}

type tree struct {
	*ext4.Image
	nodes map[string]ext4.Node
	order map[string][]string // the names in a directory, in their order on the disk
	names []string            // all paths, sorted
	dpkg  *packages
}

func walk(ctx context.Context, b blob) (*tree, error) {
	img, err := ext4.New(b.r, b.size)
	if err != nil {
		return nil, err
	}
	t := &tree{Image: img, nodes: map[string]ext4.Node{}, order: map[string][]string{}}
	err = img.Walk(ctx, func(n ext4.Node) error {
		if _, twice := t.nodes[n.Path]; !twice { // of two, the kernel takes the first
			t.nodes[n.Path] = n
			t.names = append(t.names, n.Path)
		}
		if n.Path != "." {
			dir := path.Dir(n.Path)
			t.order[dir] = append(t.order[dir], path.Base(n.Path))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(t.names)
	t.dpkg = readPackages(img)
	return t, nil
}

type imageDiff struct {
	*Report
	t       thing
	a, b    *tree
	changes changes
	moved   map[string]bool // files of packages that differ
	anyPkg  bool            // a package differs
	same    map[string]bool // paths that differ in nothing but their blocks

	budget  int64 // bytes of content that may still be read
	details int64 // and of files that may still be compared in depth
}

// maxDetails is how many bytes of files that differ are compared in depth.
const maxDetails = 4 << 30

// images compares the superblocks by their fields, the trees by their names, and the bytes that belong to neither.
func (r *Report) images(ctx context.Context, t thing, a, b blob, s changes) error {
	x, err := walk(ctx, a)
	if err != nil {
		return fmt.Errorf("read %s: %w", r.A, err)
	}
	y, err := walk(ctx, b)
	if err != nil {
		return fmt.Errorf("read %s: %w", r.B, err)
	}
	d := &imageDiff{Report: r, t: t, a: x, b: y, changes: s, same: map[string]bool{}, details: maxDetails}
	// A block is in one file at most: this bounds the work on an image that says otherwise.
	d.budget = 2 * (a.size + b.size)
	d.moved, d.anyPkg = movedFiles(x, y)

	if a.size != b.size {
		r.add(Difference{t.artifact, "size", strconv.FormatInt(a.size, 10), strconv.FormatInt(b.size, 10), Config})
	}
	d.superblocks()
	d.missing()
	for _, name := range x.names {
		if n, ok := y.nodes[name]; ok {
			if err := d.node(ctx, x.nodes[name], n); err != nil {
				return fmt.Errorf("/%s: %w", name, err)
			}
		}
	}
	d.orders()
	d.places()
	return d.physical(ctx, a, b)
}

// tell adds a difference of a path. Of a file of a package that differs, that is the cause.
func (d *imageDiff) tell(name, what, a, b string, c Cause) {
	where := "/" + strings.TrimPrefix(name, ".")
	if what != "" {
		where += ": " + what
	}
	if d.moved[name] {
		c = Package
	}
	d.add(Difference{d.t.artifact, where, a, b, c})
}

func (d *imageDiff) superblocks() {
	x, y := d.a.Fields(), d.b.Fields()
	for i, f := range x {
		g := y[i]
		if bytes.Equal(f.Raw, g.Raw) {
			continue
		}
		cause, known := superCauses[f.Name]
		if !known {
			cause = kindCauses[f.Kind]
		}
		v, w := f.Value(), g.Value()
		if bits := f.Bits(); bits != "" || g.Bits() != "" {
			v, w = onlyIn(bits, g.Bits()), onlyIn(g.Bits(), bits)
		}
		d.add(Difference{d.t.artifact, "superblock: " + f.Name, v, w, cause})
	}
}

// superCauses are the causes of some of the superblock's fields. Those that follow do so from what is in the image.
var superCauses = map[string]Cause{
	"s_free_blocks_count": Follows, "s_free_inodes_count": Follows, "s_kbytes_written": Follows,
	"s_overhead_clusters": Follows, "s_jnl_blocks": Follows, "s_r_blocks_count": Follows,
	"s_volume_name": Config, "s_inodes_count": Config, "s_blocks_count": Config, "s_inode_size": Config,
	"s_reserved_gdt_blocks": Config, "s_log_block_size": Config,
	"s_mnt_count": Leftover, "s_last_mounted": Leftover,
	"s_def_resuid": Owner, "s_def_resgid": Owner,
}

// kindCauses are the causes of the others.
var kindCauses = map[ext4.FieldKind]Cause{
	ext4.Time: Time, ext4.UUID: Random, ext4.Checksum: Follows, ext4.Flags: Config,
}

func onlyIn(a, b string) string {
	other := strings.Split(b, ",")
	l := slices.DeleteFunc(strings.Split(a, ","), func(s string) bool { return slices.Contains(other, s) })
	return strings.Join(l, ",")
}

// missing reports the names that only one image has; a directory, without what is in it.
func (d *imageDiff) missing() {
	only := func(t, other *tree) map[string][]string {
		out := map[string][]string{}
		for _, name := range t.names {
			if _, ok := other.nodes[name]; ok {
				continue
			}
			if dir := path.Dir(name); other.nodes[dir].Path != "" {
				out[dir] = append(out[dir], name)
			}
		}
		return out
	}
	x, y := only(d.a, d.b), only(d.b, d.a)
	for _, dir := range keys(x, y) {
		for i, name := range x[dir] {
			// As many were added as removed: they may be the same files under other names.
			if len(x[dir]) == len(y[dir]) {
				other := y[dir][i]
				if c := causesOf(path.Base(name), path.Base(other)); len(c) > 0 {
					d.tell(name, "the name", path.Base(name), path.Base(other), c[0])
					continue
				}
				d.tell(other, "", "", d.b.describe(other), d.missingCause(other))
			}
			d.tell(name, "", d.a.describe(name), "", d.missingCause(name))
		}
		if len(x[dir]) == len(y[dir]) {
			continue
		}
		for _, name := range y[dir] {
			d.tell(name, "", "", d.b.describe(name), d.missingCause(name))
		}
	}
}

func (d *imageDiff) missingCause(name string) Cause {
	if d.anyPkg && strings.HasPrefix(name, "var/lib/dpkg/") {
		return Package
	}
	for _, t := range []*tree{d.a, d.b} { // a directory with the package's files
		i, _ := slices.BinarySearch(t.names, name+"/")
		if i < len(t.names) && strings.HasPrefix(t.names[i], name+"/") && d.moved[t.names[i]] {
			return Package
		}
	}
	return ""
}

func (t *tree) describe(name string) string {
	n := t.nodes[name]
	switch m := n.Info().Mode(); {
	case m.IsDir():
		i, _ := slices.BinarySearch(t.names, name+"/")
		below := 0
		for ; i < len(t.names) && strings.HasPrefix(t.names[i], name+"/"); i++ {
			below++
		}
		return fmt.Sprintf("directory, %d names below", below)
	case m.IsRegular():
		return fmt.Sprintf("file, %d bytes", n.Info().Size())
	}
	return kind(n)
}

func kind(n ext4.Node) string {
	switch m := n.Info().Mode(); {
	case m.IsDir():
		return "directory"
	case m.IsRegular():
		return "file"
	case m&fs.ModeSymlink != 0:
		return "symbolic link"
	case m&fs.ModeDevice != 0:
		return fmt.Sprintf("device %d:%d", n.Stat().Major, n.Stat().Minor)
	case m&fs.ModeNamedPipe != 0:
		return "pipe"
	case m&fs.ModeSocket != 0:
		return "socket"
	}
	return "unknown"
}

func (d *imageDiff) node(ctx context.Context, x, y ext4.Node) error {
	name, before := x.Path, len(d.Differences)+d.Dropped
	defer func() { d.same[name] = len(d.Differences)+d.Dropped == before }()
	a, b := x.Info(), y.Info()
	s, t := x.Stat(), y.Stat()
	if v, w := kind(x), kind(y); v != w {
		d.tell(name, "type", v, w, "")
		return nil
	}
	if v, w := a.Mode(), b.Mode(); v != w {
		d.tell(name, "mode", octal(v), octal(w), modeCause(v, w))
	}
	if s.UID != t.UID || s.GID != t.GID {
		d.tell(name, "owner", fmt.Sprintf("%d:%d", s.UID, s.GID), fmt.Sprintf("%d:%d", t.UID, t.GID), Owner)
	}
	d.times(name, a, b)
	if s.Links != t.Links && !a.IsDir() {
		d.tell(name, "hard links", strconv.Itoa(s.Links), strconv.Itoa(t.Links), "")
	}
	if s.Flags != t.Flags {
		d.tell(name, "flags", fmt.Sprintf("%#x", s.Flags), fmt.Sprintf("%#x", t.Flags), Follows)
	}
	if s.Generation != t.Generation {
		d.tell(name, "generation", fmt.Sprintf("%#x", s.Generation), fmt.Sprintf("%#x", t.Generation), Random)
	}
	if err := d.attributes(name, x, y); err != nil {
		return err
	}
	switch {
	case a.Mode()&fs.ModeSymlink != 0:
		v, w, err := two(x, y, ext4.Node.Link)
		if err != nil {
			return err
		}
		if v != w {
			d.tell(name, "link", strconv.Quote(v), strconv.Quote(w), first(causesOf(v, w)))
		}
	case a.Mode().IsRegular():
		return d.content(ctx, x, y)
	}
	return nil
}

// times compares the four times of an inode, and reports them as one difference.
func (d *imageDiff) times(name string, a, b fs.FileInfo) {
	s, t := a.Sys().(*ext4.Stat), b.Sys().(*ext4.Stat)
	var what, v, w []string
	for _, one := range []struct {
		name string
		a, b time.Time
	}{
		{"mtime", a.ModTime(), b.ModTime()}, {"atime", s.Accessed, t.Accessed},
		{"ctime", s.Changed, t.Changed}, {"crtime", s.Created, t.Created},
	} {
		if one.a.Equal(one.b) {
			continue
		}
		what = append(what, one.name)
		if p, q := clockText(one.a), clockText(one.b); !slices.Contains(v, p) || !slices.Contains(w, q) {
			v, w = append(v, p), append(w, q)
		}
	}
	if len(what) > 0 {
		d.tell(name, strings.Join(what, ", "), strings.Join(v, ", "), strings.Join(w, ", "), Time)
	}
}

func clockText(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func (d *imageDiff) attributes(name string, x, y ext4.Node) error {
	v, w, err := two(x, y, ext4.Node.Xattrs)
	if err != nil {
		return err
	}
	for _, k := range keys(v, w) {
		p, inA := v[k]
		q, inB := w[k]
		if inA == inB && bytes.Equal(p, q) || k == "system.data" { // content that is in the inode
			continue
		}
		show := func(v []byte, has bool) string {
			if !has {
				return ""
			}
			return strconv.Quote(string(v))
		}
		cause := first(causesOf(string(p), string(q)))
		if k == "security.selinux" || strings.HasPrefix(k, "trusted.overlay.") {
			cause = Host // the machine's policy, or its overlay file system
		}
		d.tell(name, "attribute "+k, show(p, inA), show(q, inB), cause)
	}
	return nil
}
