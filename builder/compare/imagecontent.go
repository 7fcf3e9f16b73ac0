package compare

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"

	"github.com/kimg/kimg/ext4"
)

func (d *imageDiff) content(ctx context.Context, x, y ext4.Node) error {
	a, b, err := two(x, y, func(n ext4.Node) (blob, error) {
		r, size, err := n.Content()
		return blob{r: r, size: size}, err
	})
	if err != nil {
		return err
	}
	if a.size == b.size {
		same, err := d.sameContent(ctx, x, y, a, b)
		if err != nil || same {
			return err
		}
	}
	if d.moved[x.Path] || d.anyPkg && derived(x.Path) { // that explains it
		d.tell(x.Path, "content", byteCount(a.size), byteCount(b.size), Package)
		return nil
	}
	if a.size+b.size > d.details {
		d.tell(x.Path, "content", byteCount(a.size), byteCount(b.size), "")
		return nil
	}
	d.details -= a.size + b.size
	in := thing{artifact: d.t.artifact, where: "/" + x.Path, base: path.Base(x.Path), depth: d.t.depth + 1}
	return d.blobs(ctx, in, a, b)
}

func (d *imageDiff) sameContent(ctx context.Context, x, y ext4.Node, a, b blob) (bool, error) {
	ex, ey, err := two(x, y, ext4.Node.Extents)
	if err != nil {
		return false, err
	}
	bs, other := d.a.Superblock().BlockSize, d.b.Superblock().BlockSize
	if bs == other && len(ex) > 0 && slices.Equal(ex, ey) && !d.touched(ex, bs) {
		return true, nil
	}
	// What neither has blocks for reads as zeros in both.
	var pieces []span
	for _, e := range ex {
		pieces = append(pieces, span{e.Logical * bs, (e.Logical + e.Blocks) * bs})
	}
	for _, e := range ey {
		pieces = append(pieces, span{e.Logical * other, (e.Logical + e.Blocks) * other})
	}
	if len(ex) == 0 || len(ey) == 0 { // its content is in its inode, or it is empty, or one hole
		pieces = append(pieces, span{0, min(a.size, 64<<10)})
	}
	slices.SortFunc(pieces, func(p, q span) int { return cmp.Compare(p.from, q.from) })
	at := int64(0)
	for _, p := range pieces {
		p.from = max(p.from, at)
		p.to = min(p.to, a.size)
		if p.from >= p.to {
			continue
		}
		if d.budget -= 2 * (p.to - p.from); d.budget < 0 {
			return false, fmt.Errorf("%w: its files have more blocks than the disk", ext4.ErrCorrupt)
		}
		c, err := differ(ctx, a.part(p.from, p.to-p.from), b.part(p.from, p.to-p.from))
		if err != nil || len(c.spans) > 0 {
			return false, err
		}
		at = p.to
	}
	return true, nil
}

// touched reports whether any byte of the extents differs on the disk.
func (d *imageDiff) touched(ext []ext4.Extent, bs int64) bool {
	for _, e := range ext {
		if e.Physical != 0 && d.changes.touch(e.Physical*bs, (e.Physical+e.Blocks)*bs) {
			return true
		}
	}
	return false
}

func (c changes) touch(from, to int64) bool {
	i, _ := slices.BinarySearchFunc(c.spans, from, func(s span, at int64) int {
		if s.to <= at {
			return -1
		}
		return 1
	})
	return i < len(c.spans) && c.spans[i].from < to
}
