package why

import (
	"bytes"
	"context"
	"fmt"
	"slices"
)

// slabObject is memory that the kernel's allocator hands out and takes back.
type slabObject struct {
	base  uint64
	cache string // such as kmalloc-128
	link  uint64 // where the allocator links it to other free ones, which is in it
}

// The kernel's constants for x86-64. It may choose another pageOffset at its boot.
const (
	pageOffset   = 0xffff888000000000
	mostMemory   = 1 << 46 // bytes
	pageShift    = 12
	sectionShift = 27 // of what one struct mem_section is about
	sectionFlags = 0x3f
	// PGTY_slab of include/linux/page-flags.h, from 6.12 on; before it was a flag.
	slabType = 0xf5
	maxSlab  = 1 << 20 // bytes of an object
)

// slabOf is the object that an address is in; nil: it is in none of the allocator's, or the kernel does not say.
func (t *tracer) slabOf(ctx context.Context, address uint64) (*slabObject, error) {
	var failed error
	read := func(format string, args ...any) uint64 {
		if failed != nil {
			return 0
		}
		var n uint64
		n, failed = t.g.Number(ctx, fmt.Sprintf(format, args...))
		return n
	}
	or := func(symbol string, otherwise uint64) uint64 {
		if n, err := t.g.Number(ctx, symbol); err == nil {
			return n
		}
		return otherwise
	}
	from := or("page_offset_base", pageOffset)
	if address < from || address >= from+mostMemory {
		return nil, nil
	}
	size, each := read("sizeof(struct page)"), read("sizeof(struct mem_section)")
	if failed != nil || size == 0 || each == 0 {
		return nil, t.unless(ctx, failed)
	}
	// Where page 0 would be described, by __pfn_to_page of include/asm-generic/memory_model.h.
	section, row := (address-from)>>sectionShift, 1<<pageShift/each
	pages := read("mem_section[%d][%d].section_mem_map", section/row, section%row) &^ sectionFlags
	page := pages + (address-from)>>pageShift*size
	if head := read("((struct page *)%#x)->compound_head", page); head&1 != 0 {
		page = head - 1
	}
	if bit, err := t.g.Number(ctx, "(int)PG_slab"); err == nil {
		if read("((struct page *)%#x)->flags", page)>>bit&1 == 0 {
			return nil, t.unless(ctx, failed)
		}
	} else if read("((struct page *)%#x)->page_type", page)>>24&0xff != or("(int)PGTY_slab", slabType) {
		return nil, t.unless(ctx, failed)
	}
	kind := "struct slab" // from 5.17 on
	if _, err := t.g.Number(ctx, "sizeof(struct slab)"); err != nil {
		kind = "struct page"
	}
	cache := read("(unsigned long)((%s *)%#x)->slab_cache", kind, page)
	if failed != nil || !isKernel(cache) {
		return nil, t.unless(ctx, failed)
	}
	member := func(name string) uint64 { return read("((struct kmem_cache *)%#x)->%s", cache, name) }
	all, offset := member("size"), member("offset")
	name := read("(unsigned long)((struct kmem_cache *)%#x)->name", cache)
	first := from + (page-pages)/size<<pageShift
	if failed != nil || all == 0 || all > maxSlab || offset >= all || address < first {
		return nil, t.unless(ctx, failed)
	}
	text, err := t.g.Memory(ctx, name, 32)
	if err != nil {
		return nil, t.unless(ctx, err)
	}
	text, _, _ = bytes.Cut(text, []byte{0})
	pad := or(fmt.Sprintf("((struct kmem_cache *)%#x)->red_left_pad", cache), 0) // of a cache that is debugged
	base := first + (address-first)/all*all + pad
	return &slabObject{base: base, cache: string(text), link: base + offset}, nil
}

// frees are functions that give an object back to the allocator.
var frees = []string{"kfree", "kmem_cache_free", "kmem_cache_free_bulk", "kfree_sensitive", "kvfree"}

// maxLinks is how many writes to an object's link are looked at for the one of its free.
const maxLinks = 24

// freed goes back to where the object that an address is in was freed last, if it was: the allocator then wrote its
// link to it.
func (t *tracer) freed(ctx context.Context, q question) error {
	o, err := t.slabOf(ctx, q.Address)
	if err != nil || o == nil {
		return err
	}
	for range maxLinks {
		w, err := t.written(ctx, o.link, 8, 0)
		if err != nil || w == nil {
			return t.unless(ctx, err)
		}
		frames, err := t.g.Frames(ctx, t.root)
		if err != nil {
			return t.unless(ctx, err)
		}
		at := -1
		for i, f := range frames {
			if slices.Contains(frees, f.Function) {
				at = i
			}
		}
		if at < 0 {
			continue
		}
		// To the call, out of the allocator.
		entry, err := t.g.Number(ctx, "&'"+frames[at].Function+"'")
		if err == nil {
			if _, err = t.backTo(ctx, []uint64{entry}, false); err == nil {
				err = t.stepOut(ctx)
			}
		}
		if fatal(ctx, err) {
			return err
		}
		return t.show(ctx, Step{Kind: Freed, Address: number(o.base),
			What: fmt.Sprintf("the object that this is in, of %s, had been freed here", o.cache)})
	}
	return nil
}
