package compare

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/kimg/kimg/ext4"
)

// orders tells of directories whose common names lie in another order.
func (d *imageDiff) orders() {
	seeds := d.seedsDiffer("s_hash_seed")
	for _, dir := range keys(d.a.order, d.b.order) {
		x, y := d.a.order[dir], d.b.order[dir]
		if slices.Equal(x, y) {
			continue
		}
		if len(x) != len(y) || !sameNames(x, y) {
			x, y = d.common(dir, x, d.b), d.common(dir, y, d.a)
		}
		if c := orderOf(x, y); c != "" {
			const hashed = 0x1000 // EXT4_INDEX_FL: names lie by their hash
			if seeds && (d.a.nodes[dir].Stat().Flags|d.b.nodes[dir].Stat().Flags)&hashed != 0 {
				c = Follows
			}
			_, v, w := firstLine(strings.Join(x, "\n"), strings.Join(y, "\n"))
			d.tell(dir, "order of names", v, w, c)
		}
	}
}

func sameNames(x, y []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(x)), slices.Sorted(slices.Values(y)))
}

func (d *imageDiff) common(dir string, names []string, other *tree) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { _, ok := other.nodes[path.Join(dir, n)]; return !ok })
}

func (d *imageDiff) seedsDiffer(field string) bool {
	value := func(t *tree) string {
		for _, f := range t.Fields() {
			if f.Name == field {
				return f.Value()
			}
		}
		return ""
	}
	return value(d.a) != value(d.b)
}

// places tells, at once for all files, of inodes with other numbers and of files
// with the same content in other blocks. They follow from what else is in the
// image; where nothing else differs, from an order.
func (d *imageDiff) places() {
	inodes, blocks := 0, 0
	var firstInode, firstBlock Difference
	for _, name := range d.a.names {
		x := d.a.nodes[name]
		y, ok := d.b.nodes[name]
		if !ok {
			continue
		}
		if v, w := x.Stat().Inode, y.Stat().Inode; v != w {
			if inodes++; inodes == 1 {
				firstInode = Difference{Where: name, A: strconv.Itoa(int(v)), B: strconv.Itoa(int(w))}
			}
		}
		ex, err := x.Extents()
		if err != nil {
			continue // told where it was read
		}
		ey, err := y.Extents()
		if err != nil || !d.same[name] || slices.Equal(ex, ey) {
			continue
		}
		if blocks++; blocks == 1 {
			firstBlock = Difference{Where: name, A: extentsText(ex), B: extentsText(ey)}
		}
	}
	cause, layout := Follows, Follows
	if slices.Equal(d.a.names, d.b.names) {
		cause, layout = Order, Layout
	}
	if inodes > 0 {
		d.add(Difference{d.t.artifact, fmt.Sprintf("inode numbers of %d names, the first is /%s", inodes, firstInode.Where), firstInode.A, firstInode.B, cause})
	}
	if blocks > 0 {
		d.add(Difference{d.t.artifact, fmt.Sprintf("blocks of %d names with the same content, the first is /%s", blocks, firstBlock.Where), firstBlock.A, firstBlock.B, layout})
	}
}

func extentsText(l []ext4.Extent) string {
	const few = 4
	var out []string
	for i, e := range l {
		if i == few {
			out = append(out, "...")
			break
		}
		out = append(out, fmt.Sprintf("%d-%d", e.Physical, e.Physical+e.Blocks-1))
	}
	return strings.Join(out, ",")
}

// owner is who has a piece of the disk, in blocks.
type owner struct {
	first, n int64
	what     string // ext4's, or "file", "directory", "map"
	path     string
	logical  int64 // block of the file
	written  bool
}

// owners are the owners of all blocks in use, by their first block.
func (t *tree) owners() []owner {
	var out []owner
	for _, a := range t.Areas() {
		out = append(out, owner{first: a.First, n: a.Blocks, what: a.What})
	}
	seen := map[uint32]bool{}
	for _, name := range t.names {
		n := t.nodes[name]
		if seen[n.Stat().Inode] {
			continue
		}
		seen[n.Stat().Inode] = true
		what := "file"
		if n.Info().IsDir() {
			what = "directory"
		}
		if ext, err := n.Extents(); err == nil {
			for _, e := range ext {
				if e.Physical != 0 {
					out = append(out, owner{e.Physical, e.Blocks, what, name, e.Logical, true})
				}
			}
		}
		if own, err := n.OwnBlocks(); err == nil {
			for _, b := range own {
				out = append(out, owner{b, 1, "map", name, 0, true})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b owner) int { return cmp.Compare(a.first, b.first) })
	return out
}

// ownerOf finds the owner of a block; one without what is nobody.
func ownerOf(l []owner, block int64) owner {
	i, found := slices.BinarySearchFunc(l, block, func(o owner, b int64) int { return cmp.Compare(o.first, b) })
	if !found {
		i--
	}
	if i >= 0 && block < l[i].first+l[i].n {
		return l[i]
	}
	return owner{}
}

// tally counts bytes that differ, and keeps the first place of them.
type tally struct {
	bytes int64
	first span
	path  string
}

// physical accounts for the bytes on the disk that no name has: copies of the
// superblock, tables, the journal, and what nobody reads.
func (d *imageDiff) physical(ctx context.Context, a, b blob) error {
	told := len(d.Differences) > 0
	bs := d.a.Superblock().BlockSize
	if bs != d.b.Superblock().BlockSize {
		return nil // told with the superblock; nothing lies where it lay
	}
	end := min(d.a.Superblock().Blocks, d.b.Superblock().Blocks) * bs
	x, y := d.a.owners(), d.b.owners()
	sums := map[string]*tally{}
	count := func(what, path string, s span) {
		t := sums[what]
		if t == nil {
			t = &tally{first: s, path: path}
			sums[what] = t
		}
		t.bytes += s.to - s.from
	}
	for _, s := range d.changes.spans {
		if err := ctx.Err(); err != nil {
			return err
		}
		for at := s.from; at < s.to; {
			block := at / bs
			to := min(s.to, (block+1)*bs)
			piece := span{at, to}
			if at = to; piece.from >= end {
				count("behind the file system", "", piece)
				continue
			}
			d.assign(ownerOf(x, block), ownerOf(y, block), piece, bs, count)
		}
	}
	d.tallies(sums, told, a, b)
	return nil
}

// assign finds what a differing piece of one block is about.
func (d *imageDiff) assign(p, q owner, s span, bs int64, count func(what, path string, s span)) {
	switch {
	case s.to <= 1024:
		count("boot block", "", s)
	case s.from < 2048 && p.what == ext4.SuperArea && s.from >= 1024:
		// told by the superblock's fields
	case p.what == ext4.SuperArea || q.what == ext4.SuperArea:
		count("copies of the superblock", "", s)
	case p.what == ext4.TableArea && q.what == p.what:
		num, at, _ := d.a.InodeAt(s.from)
		const sumLow, sumHigh = 0x7C, 0x82 // l_i_checksum_lo and i_checksum_hi
		if n := int(s.to - s.from); (at >= sumLow && at+n <= sumLow+2) || (at >= sumHigh && at+n <= sumHigh+2) {
			count("inode tables: checksums", "", s)
			return
		}
		count("inode tables", fmt.Sprintf("inode %d, byte %#x", num, at), s)
	case p.what == "" && q.what == "":
		count("free blocks", "", s)
	case p.what == "" || q.what == "" || p.what != q.what || p.path != q.path:
		// one of the two lies elsewhere: told by its name
	case p.what == "file":
		if d.same[p.path] && p.logical-p.first == q.logical-q.first {
			count("slack", "/"+p.path, s)
		}
	case p.what == "directory":
		count("directories", "/"+p.path, s)
	default:
		count(p.what, "", s)
	}
}

// areaNames says of each tally what a person is told, and its cause when nothing
// else differs. The rest follows from what differs.
var areaNames = []struct {
	what, says string
	alone      Cause
	always     bool // the cause is this one, whatever else differs
}{
	{"boot block", "boot block (the first 1024 bytes)", "", true},
	{"copies of the superblock", "copies of the superblock", "", false},
	{ext4.DescArea, "group descriptors", "", false},
	{ext4.BitmapArea, "bitmaps of blocks and inodes", "", false},
	{"inode tables", "inode tables", Leftover, false},
	{"inode tables: checksums", "checksums of inodes", "", false},
	{"directories", "blocks of directories", Leftover, false},
	{"map", "blocks of maps and attributes", "", false},
	{ext4.JournalArea, "journal", Leftover, false},
	{ext4.OrphanArea, "orphan file", Leftover, false},
	{"slack", "bytes behind the end of files", Leftover, true},
	{"free blocks", "bytes in free blocks", Leftover, true},
	{"behind the file system", "bytes behind the file system's end", Leftover, true},
}

func (d *imageDiff) tallies(sums map[string]*tally, told bool, a, b blob) {
	for _, n := range areaNames {
		t := sums[n.what]
		if t == nil {
			continue
		}
		cause := n.alone
		if told && !n.always {
			cause = Follows
		}
		where := fmt.Sprintf("%s: %d bytes, the first at %#x", n.says, t.bytes, t.first.from)
		if t.path != "" {
			where += " (" + t.path + ")"
		}
		one := d.place(d.t, where, a, b, t.first)
		one.Cause = cause
		d.add(one)
	}
}
