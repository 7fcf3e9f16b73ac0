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

// orders reports directories whose common names are in another order.
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
			const hashed = 0x1000 // EXT4_INDEX_FL: names are in the order of their hashes
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
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool {
		_, ok := other.nodes[path.Join(dir, n)]
		return !ok
	})
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

// places reports, as one difference each, the inodes that have other numbers and the files in other blocks. These
// follow from what else is in the image; where no name was added or removed, from an order.
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
			continue // reported where it was read
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
		where := fmt.Sprintf("inode numbers of %s, the first is /%s", plural(inodes, "name"), firstInode.Where)
		d.report(d.t, where, firstInode.A, firstInode.B, cause)
	}
	if blocks > 0 {
		where := fmt.Sprintf("blocks of %s with the same content, the first is /%s",
			plural(blocks, "name"), firstBlock.Where)
		d.report(d.t, where, firstBlock.A, firstBlock.B, layout)
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

type owner struct {
	first, n int64  // blocks
	what     string // of ext4.Area, or "file", "directory", "map"
	path     string
	logical  int64 // block of the file
}

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
					out = append(out, owner{e.Physical, e.Blocks, what, name, e.Logical})
				}
			}
		}
		if own, err := n.OwnBlocks(); err == nil {
			for _, b := range own {
				out = append(out, owner{b, 1, "map", name, 0})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b owner) int { return cmp.Compare(a.first, b.first) })
	return out
}

// ownerOf finds the owner of a block; of a free one, the zero value.
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

// tally counts bytes that differ, and keeps where the first of them are.
type tally struct {
	bytes int64
	first span
	path  string
}

// physical reports bytes that belong to no name: superblock copies, tables, the journal, and what nothing reads.
func (d *imageDiff) physical(ctx context.Context, a, b blob) error {
	others := len(d.Differences) > 0
	bs := d.a.Superblock().BlockSize
	if bs != d.b.Superblock().BlockSize {
		return nil // reported with the superblock; nothing is at the same place
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
	d.tallies(sums, others, a, b)
	return nil
}

func (d *imageDiff) assign(p, q owner, s span, bs int64, count func(what, path string, s span)) {
	switch {
	case s.to <= 1024:
		count("boot block", "", s)
	case s.from < 2048 && p.what == ext4.SuperArea && s.from >= 1024:
		// reported by the superblock's fields
	case p.what == ext4.SuperArea || q.what == ext4.SuperArea:
		count("copies of the superblock", "", s)
	case p.what == ext4.TableArea && q.what == p.what:
		num, at, _ := d.a.InodeAt(s.from)
		const sumLow, sumHigh = 0x7C, 0x82 // l_i_checksum_lo and i_checksum_hi
		n := int(s.to - s.from)
		if at >= sumLow && at+n <= sumLow+2 || at >= sumHigh && at+n <= sumHigh+2 {
			count("inode tables: checksums", "", s)
			return
		}
		count("inode tables", fmt.Sprintf("inode %d, byte %#x", num, at), s)
	case p.what == "" && q.what == "":
		count("free blocks", "", s)
	case p.what == "" || q.what == "" || p.what != q.what || p.path != q.path:
		// one of the two is elsewhere: reported by its name
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

// areaNames are the tallies' names in a report, and their causes where nothing else differs.
var areaNames = []struct {
	what, says string
	alone      Cause
	always     bool // whatever else differs
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

func (d *imageDiff) tallies(sums map[string]*tally, others bool, a, b blob) {
	for _, n := range areaNames {
		t := sums[n.what]
		if t == nil {
			continue
		}
		cause := n.alone
		if others && !n.always {
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
