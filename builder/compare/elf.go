package compare

import (
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"fmt"
	"slices"
	"strings"

	"github.com/kimg/kimg/internal/elffile"
)

func isELF(_ thing, head []byte) bool { return bytes.HasPrefix(head, []byte(elf.ELFMAG)) }

// program is an ELF file: its sections by name and its symbols.
type program struct {
	blob
	f        *elf.File
	sections map[string]*elf.Section // a second one of a name is "name#2"
	index    map[*elf.Section]elf.SectionIndex
	symbols  []elf.Symbol // by section and value
	shifted  bool         // places are not those of the file that it is compared with
}

func openELF(b blob) (p *program, err error) {
	f, err := elffile.Open(b.r, b.size)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errOpaque, err)
	}
	p = &program{blob: b, f: f.File, symbols: f.Symbols, sections: map[string]*elf.Section{}, index: map[*elf.Section]elf.SectionIndex{}}
	seen, total := map[string]int{}, int64(0)
	for i, s := range f.Sections {
		if s.Type == elf.SHT_NULL {
			continue
		}
		name := s.Name
		if seen[s.Name]++; seen[s.Name] > 1 {
			name = fmt.Sprintf("%s#%d", s.Name, seen[s.Name])
		}
		p.sections[name], p.index[s] = s, elf.SectionIndex(i)
		total += p.content(s).size
	}
	if total > 2*b.size { // sections may lie over each other, each as large as the file
		return nil, fmt.Errorf("%w: its sections have more bytes than it has", errOpaque)
	}
	slices.SortStableFunc(p.symbols, func(x, y elf.Symbol) int {
		return cmp.Or(cmp.Compare(x.Section, y.Section), cmp.Compare(x.Value, y.Value))
	})
	return p, nil
}

// content is a section's bytes as they are in the file, compressed or not.
func (p *program) content(s *elf.Section) blob {
	if s.Type == elf.SHT_NOBITS {
		return memory(nil)
	}
	return p.part(int64(s.Offset), int64(s.FileSize))
}

// at names the symbol that has a byte of a section, or "".
func (p *program) at(s *elf.Section, off int64) string {
	index := p.index[s]
	i, _ := slices.BinarySearchFunc(p.symbols, 0, func(y elf.Symbol, _ int) int {
		if cmp.Or(cmp.Compare(y.Section, index), cmp.Compare(y.Value, s.Addr+uint64(off))) <= 0 {
			return -1
		}
		return 1
	})
	const back = 16 // labels without a size may lie in between
	for k := i - 1; k >= max(0, i-back); k-- {
		y := p.symbols[k]
		if y.Section != index {
			break
		}
		if elf.ST_TYPE(y.Info) != elf.STT_SECTION && y.Name != "" && s.Addr+uint64(off) < y.Value+max(y.Size, 1) {
			return y.Name
		}
	}
	return ""
}

// bounds are the symbol that has a byte of a section, as a span of the section; all
// of it where there is none.
func (p *program) bounds(s *elf.Section, off int64) span {
	index, at := p.index[s], s.Addr+uint64(off)
	for _, y := range p.symbols {
		if y.Section == index && y.Size > 0 && y.Value <= at && at < y.Value+y.Size && elf.ST_TYPE(y.Info) == elf.STT_OBJECT {
			return span{int64(y.Value - s.Addr), int64(y.Value - s.Addr + y.Size)}
		}
	}
	return span{0, int64(s.Size)}
}

// placeIn is place with no look beyond the bounds: what stands beside a symbol is
// no part of it.
func (r *Report) placeIn(t thing, where string, in span, a, b blob, sp span) Difference {
	size := in.to - in.from
	return r.place(t, where, a.part(in.from, size), b.part(in.from, size), span{sp.from - in.from, min(sp.to-in.from, size)})
}

// maxSplit bounds a span that is looked at symbol by symbol, in bytes.
const maxSplit = 1 << 20

// bySymbol splits spans of a section where symbols begin, so that each symbol is
// told whose bytes differ: spans that lie close to each other are one.
func (p *program) bySymbol(s *elf.Section, spans []span, a, b blob) (out []span) {
	index := p.index[s]
	for _, sp := range spans {
		if sp.to-sp.from > maxSplit {
			out = append(out, sp)
			continue
		}
		x, y := a.part(sp.from, sp.to-sp.from).head(maxSplit), b.part(sp.from, sp.to-sp.from).head(maxSplit)
		cuts := []int64{sp.from}
		i, _ := slices.BinarySearchFunc(p.symbols, 0, func(y elf.Symbol, _ int) int {
			if cmp.Or(cmp.Compare(y.Section, index), cmp.Compare(y.Value, s.Addr+uint64(sp.from))) <= 0 {
				return -1
			}
			return 1
		})
		for ; i < len(p.symbols) && p.symbols[i].Section == index && p.symbols[i].Value < s.Addr+uint64(sp.to); i++ {
			if at := int64(p.symbols[i].Value - s.Addr); at > cuts[len(cuts)-1] {
				cuts = append(cuts, at)
			}
		}
		for i, from := range cuts {
			to := sp.to
			if i+1 < len(cuts) {
				to = cuts[i+1]
			}
			n := int64(min(len(x), len(y)))
			u, v := x[min(from-sp.from, n):min(to-sp.from, n)], y[min(from-sp.from, n):min(to-sp.from, n)]
			first, last := 0, len(u)
			for ; first < last && u[first] == v[first]; first++ {
			}
			for ; last > first && u[last-1] == v[last-1]; last-- {
			}
			if first < last {
				out = append(out, span{from + int64(first), from + int64(last)})
			}
		}
	}
	return out
}

// elfs compares two ELF files section by section.
func (r *Report) elfs(ctx context.Context, t thing, a, b blob, _ changes) error {
	x, err := openELF(a)
	if err != nil {
		return err
	}
	y, err := openELF(b)
	if err != nil {
		return err
	}
	from := len(r.Differences)
	h, g := x.f.FileHeader, y.f.FileHeader
	if h.Class != g.Class || h.Machine != g.Machine || h.Type != g.Type || h.Data != g.Data {
		r.add(Difference{t.artifact, t.at("ELF header"), fmt.Sprint(h.Class, h.Machine, h.Type), fmt.Sprint(g.Class, g.Machine, g.Type), ""})
	}
	if h.Entry != g.Entry {
		r.add(Difference{t.artifact, t.at("entry point"), fmt.Sprintf("%#x", h.Entry), fmt.Sprintf("%#x", g.Entry), Follows})
	}
	for name, s := range x.sections {
		u := y.sections[name]
		loaded := s.Flags&elf.SHF_ALLOC != 0 && s.Type != elf.SHT_NOTE
		x.shifted = x.shifted || loaded && (u == nil || s.Size != u.Size || s.Addr != u.Addr)
	}
	x.shifted = x.shifted || movedSymbols(x.symbols, y.symbols)
	for _, name := range sectionOrder(x, y) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.section(ctx, t, name, x, y); err != nil {
			return fmt.Errorf("section %s: %w", name, err)
		}
	}
	r.settle(from)
	return nil
}

// movedSymbols says whether a symbol that both have is at another place.
func movedSymbols(a, b []elf.Symbol) bool {
	at := make(map[string]uint64, len(a))
	for _, s := range a {
		if elf.ST_BIND(s.Info) == elf.STB_GLOBAL { // only these have one place
			at[s.Name] = s.Value
		}
	}
	return slices.ContainsFunc(b, func(s elf.Symbol) bool {
		v, ok := at[s.Name]
		return ok && elf.ST_BIND(s.Info) == elf.STB_GLOBAL && v != s.Value
	})
}

// sectionOrder is the order of A's sections, then those that only B has.
func sectionOrder(x, y *program) []string {
	var out []string
	for _, p := range []*program{x, y} {
		names := keys(p.sections, nil)
		slices.SortStableFunc(names, func(m, n string) int { return cmp.Compare(p.sections[m].Offset, p.sections[n].Offset) })
		for _, n := range names {
			if p == x || x.sections[n] == nil {
				out = append(out, n)
			}
		}
	}
	return out
}

// section compares one section of two files.
func (r *Report) section(ctx context.Context, t thing, name string, x, y *program) error {
	s, u := x.sections[name], y.sections[name]
	if s == nil || u == nil {
		show := func(s *elf.Section) string {
			if s == nil {
				return ""
			}
			return fmt.Sprintf("%d bytes", s.Size)
		}
		r.add(Difference{t.artifact, t.at("section " + name), show(s), show(u), ""})
		return nil
	}
	if s.Type != u.Type || s.Flags != u.Flags {
		r.add(Difference{t.artifact, t.at(name + ": kind"), fmt.Sprint(s.Type, " ", s.Flags), fmt.Sprint(u.Type, " ", u.Flags), ""})
	}
	if s.Type == elf.SHT_NOBITS || u.Type == elf.SHT_NOBITS {
		if s.Size != u.Size {
			r.add(Difference{t.artifact, t.at(name + ": size"), fmt.Sprint(s.Size), fmt.Sprint(u.Size), ""})
		}
		return nil
	}
	a, b := x.content(s), y.content(u)
	c, err := differ(ctx, a, b)
	if err != nil || len(c.spans) == 0 && a.size == b.size {
		return err
	}
	whole := func(cause Cause) {
		r.add(Difference{t.artifact, t.at(fmt.Sprintf("%s: %d bytes differ", name, c.bytes)), fmt.Sprintf("%d bytes", a.size), fmt.Sprintf("%d bytes", b.size), cause})
	}
	switch {
	case s.Type == elf.SHT_NOTE:
		return r.notes(t, name, x, a, b)
	case s.Type == elf.SHT_SYMTAB:
		r.symbols(t, name, x.table(), y.table())
	case name == ".strtab", name == ".shstrtab", s.Type == elf.SHT_RELA, s.Type == elf.SHT_REL:
		whole(Follows) // from the names of symbols and sections, and their places
	case s.Flags&elf.SHF_COMPRESSED == 0 && (s.Flags&elf.SHF_STRINGS != 0 || s.Type == elf.SHT_STRTAB || name == ".comment" || name == ".modinfo"):
		return r.stringTable(t, name, a, b)
	case strings.HasPrefix(name, ".debug_") || strings.HasPrefix(name, ".zdebug_"):
		whole(pending)
	case places(name):
		whole(pending)
	case s.Flags&elf.SHF_EXECINSTR != 0:
		r.code(t, name, x, y, s, u, c)
	case a.size != b.size || x.shifted:
		whole(pending) // pointers; what else moved is in the strings
		return r.dataStrings(t, name, a, b)
	default:
		r.data(t, name, x, s, a, b, c)
	}
	return nil
}

// pending marks a difference that settle gives its cause.
const pending Cause = "pending"

// settle gives causes to what follows from others, if there are any.
func (r *Report) settle(from int) {
	own, compiler := false, false
	for _, d := range r.Differences[from:] {
		own = own || d.Cause != pending && d.Cause != Follows
		compiler = compiler || d.Cause == Compiler
	}
	for i := range r.Differences[from:] {
		d := &r.Differences[from+i]
		switch {
		case d.Cause == pending && own:
			d.Cause = Follows
		case d.Cause == pending && strings.HasSuffix(d.Where, "build ID"):
			d.Cause = Random // drawn, and no digest of the rest
		case d.Cause == pending:
			d.Cause = ""
		}
		if d.Cause == "" && compiler {
			d.Cause = Compiler
		}
	}
}

// table is the symbol table in the form of a System.map's.
func (p *program) table() []symbol {
	out := make([]symbol, 0, len(p.symbols))
	for _, y := range p.symbols {
		if y.Name != "" {
			out = append(out, symbol{y.Name, y.Value, fmt.Sprint(y.Section, elf.ST_TYPE(y.Info), elf.ST_BIND(y.Info))})
		}
	}
	return out
}

// data tells which symbols of a section differ.
func (r *Report) data(t thing, name string, p *program, s *elf.Section, a, b blob, c changes) {
	told, causes := map[string]bool{}, map[Cause]bool{}
	var more []string
	shown := 0
	for _, sp := range p.bySymbol(s, c.spans, a, b) {
		sym := p.at(s, sp.from)
		if sym != "" && told[sym] {
			continue
		}
		told[sym] = true
		where := strings.TrimSuffix(name+": "+sym, ": ")
		if sym == "" {
			where = fmt.Sprintf("%s: byte %#x", name, sp.from)
		}
		d := r.placeIn(t, where, p.bounds(s, sp.from), a, b, sp)
		if causes[d.Cause] && shown >= maxShown {
			more = append(more, where)
			continue
		}
		causes[d.Cause] = true
		shown++
		r.add(d)
	}
	if len(more) > 0 {
		r.add(Difference{t.artifact, t.at(fmt.Sprintf("%s: %d more places", name, len(more))), count(more), "", pending})
	}
}

// code tells which functions differ: by their size, or in their bytes alone,
// which they do wherever what they point to has moved.
func (r *Report) code(t thing, name string, x, y *program, s, u *elf.Section, c changes) {
	sizes := func(p *program, s *elf.Section) map[string]uint64 {
		m, index := map[string]uint64{}, p.index[s]
		for _, f := range p.symbols {
			if f.Section == index && elf.ST_TYPE(f.Info) == elf.STT_FUNC {
				m[f.Name] += f.Size
			}
		}
		return m
	}
	v, w := sizes(x, s), sizes(y, u)
	var grown []string
	for _, f := range keys(v, w) {
		if v[f] != w[f] {
			grown = append(grown, f)
		}
	}
	if len(grown) > 0 {
		r.add(Difference{t.artifact, t.at(fmt.Sprintf("%s: %d functions have another size", name, len(grown))),
			fmt.Sprintf("%s: %d bytes", grown[0], v[grown[0]]), fmt.Sprintf("%d bytes (%s)", w[grown[0]], count(grown)), ""})
		return
	}
	var names []string
	seen := map[string]bool{}
	for _, sp := range c.spans {
		f := x.at(s, sp.from)
		if f == "" {
			f = fmt.Sprintf("byte %#x", sp.from)
		}
		if !seen[f] {
			seen[f] = true
			names = append(names, f)
		}
	}
	cause := Cause("")
	if x.shifted {
		cause = pending
	}
	r.add(Difference{t.artifact, t.at(fmt.Sprintf("%s: %d places differ, none in size", name, len(names))), count(names), "", cause})
}

// placed are the beginnings of the names of sections that hold nothing but the
// places of what is in others: a kernel's tables, and a program's.
var placed = []string{
	".eh_frame", ".orc_", "__ex_table", "__bug_table", ".altinstructions", ".smp_locks", "__mcount_loc", "__ksymtab", ".init_array", ".fini_array",
	".dynamic", ".dynsym", ".got", ".plt", ".hash", ".gnu.hash", ".gnu.version", ".static_call", "__jump_table", ".retpoline", ".return_sites", ".parainstructions",
}

func places(section string) bool {
	return slices.ContainsFunc(placed, func(p string) bool { return strings.HasPrefix(section, p) })
}
