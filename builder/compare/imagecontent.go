package compare

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"

	"github.com/kimg/kimg/ext4"
)

// content compares two files, reading only what may differ.
func (d *imageDiff) content(ctx context.Context, x, y ext4.Node) error {
	r, size, err := x.Content()
	if err != nil {
		return err
	}
	q, other, err := y.Content()
	if err != nil {
		return err
	}
	a, b := blob{r: r, size: size}, blob{r: q, size: other}
	if size == other {
		same, err := d.sameContent(ctx, x, y, a, b)
		if err != nil || same {
			return err
		}
	}
	if d.moved[x.Path] || d.anyPkg && derived(x.Path) { // no more is needed to know why
		d.tell(x.Path, "content", fmt.Sprintf("%d bytes", size), fmt.Sprintf("%d bytes", other), Package)
		return nil
	}
	if n := size + other; n > d.details {
		d.tell(x.Path, "content", fmt.Sprintf("%d bytes", size), fmt.Sprintf("%d bytes", other), "")
		return nil
	}
	d.details -= size + other
	return d.blobs(ctx, thing{artifact: d.t.artifact, where: "/" + x.Path, base: path.Base(x.Path), depth: d.t.depth + 1}, a, b)
}

// sameContent says whether two files of one size have the same bytes.
func (d *imageDiff) sameContent(ctx context.Context, x, y ext4.Node, a, b blob) (bool, error) {
	ex, err := x.Extents()
	if err != nil {
		return false, err
	}
	ey, err := y.Extents()
	if err != nil {
		return false, err
	}
	bs := d.a.Superblock().BlockSize
	if bs == d.b.Superblock().BlockSize && len(ex) > 0 && slices.Equal(ex, ey) && !d.touched(ex, bs) {
		return true, nil
	}
	// What neither has blocks for reads as zeros in both.
	var pieces []span
	for _, e := range ex {
		pieces = append(pieces, span{e.Logical * bs, (e.Logical + e.Blocks) * bs})
	}
	for _, e := range ey {
		bs := d.b.Superblock().BlockSize
		pieces = append(pieces, span{e.Logical * bs, (e.Logical + e.Blocks) * bs})
	}
	if len(ex) == 0 || len(ey) == 0 { // in its inode, or empty, or a hole as a whole
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
			return false, fmt.Errorf("%w: its files have more blocks than there are", ext4.ErrCorrupt)
		}
		c, err := differ(ctx, a.part(p.from, p.to-p.from), b.part(p.from, p.to-p.from))
		if err != nil || len(c.spans) > 0 {
			return false, err
		}
		at = p.to
	}
	return true, nil
}

// touched says whether any byte of the extents differs on the disk.
func (d *imageDiff) touched(ext []ext4.Extent, bs int64) bool {
	for _, e := range ext {
		if e.Physical != 0 && d.changes.touch(e.Physical*bs, (e.Physical+e.Blocks)*bs) {
			return true
		}
	}
	return false
}

// touch says whether any span lies in a range.
func (c changes) touch(from, to int64) bool {
	i, _ := slices.BinarySearchFunc(c.spans, from, func(s span, at int64) int {
		if s.to <= at {
			return -1
		}
		return 1
	})
	return i < len(c.spans) && c.spans[i].from < to
}
