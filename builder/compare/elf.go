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
	shifted  bool         // addresses are not those of the file that it is compared with
}

func openELF(b blob) (p *program, err error) {
	f, err := elffile.Open(b.r, b.size)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errOpaque, err)
	}
	p = &program{
		blob: b, f: f.File, symbols: f.Symbols,
		sections: map[string]*elf.Section{}, index: map[*elf.Section]elf.SectionIndex{},
	}
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
	if total > 2*b.size { // sections may overlap, each as large as the file
		return nil, fmt.Errorf("%w: its sections have more bytes than the file", errOpaque)
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

// after is the index of the first symbol of a section, or of one behind it, whose value is greater than an address.
func (p *program) after(section elf.SectionIndex, addr uint64) int {
	i, _ := slices.BinarySearchFunc(p.symbols, addr, func(y elf.Symbol, addr uint64) int {
		if cmp.Or(cmp.Compare(y.Section, section), cmp.Compare(y.Value, addr)) <= 0 {
			return -1
		}
		return 1
	})
	return i
}

// at names the symbol that has a byte of a section, or "".
func (p *program) at(s *elf.Section, off int64) string {
	index, addr := p.index[s], s.Addr+uint64(off)
	const back = 16 // labels without a size may lie in between
	i := p.after(index, addr)
	for k := i - 1; k >= max(0, i-back); k-- {
		y := p.symbols[k]
		if y.Section != index {
			break
		}
		if elf.ST_TYPE(y.Info) != elf.STT_SECTION && y.Name != "" && addr < y.Value+max(y.Size, 1) {
			return y.Name
		}
	}
	return ""
}

// bounds are those, in its section, of the symbol that has a byte; all of the section where none has.
func (p *program) bounds(s *elf.Section, off int64) span {
	index, at := p.index[s], s.Addr+uint64(off)
	for _, y := range p.symbols {
		if y.Section == index && elf.ST_TYPE(y.Info) == elf.STT_OBJECT && y.Value <= at && at < y.Value+y.Size {
			return span{int64(y.Value - s.Addr), int64(y.Value - s.Addr + y.Size)}
		}
	}
	return span{0, int64(s.Size)}
}

// maxSplit bounds a span that is split by symbols, in bytes.
const maxSplit = 1 << 20

// bySymbol splits spans where symbols begin: spans that lie close to each other are one.
func (d *sectionDiff) bySymbol() (out []span) {
	p, s := d.x, d.s
	index := p.index[s]
	for _, sp := range d.changes.spans {
		if sp.to-sp.from > maxSplit {
			out = append(out, sp)
			continue
		}
		x, y := d.a.part(sp.from, sp.to-sp.from).head(maxSplit), d.b.part(sp.from, sp.to-sp.from).head(maxSplit)
		cuts := []int64{sp.from}
		for _, y := range p.symbols[p.after(index, s.Addr+uint64(sp.from)):] {
			if y.Section != index || y.Value >= s.Addr+uint64(sp.to) {
				break
			}
			if at := int64(y.Value - s.Addr); at > cuts[len(cuts)-1] {
				cuts = append(cuts, at)
			}
		}
		n := int64(min(len(x), len(y)))
		for i, from := range cuts {
			to := sp.to
			if i+1 < len(cuts) {
				to = cuts[i+1]
			}
			lo, hi := min(from-sp.from, n), min(to-sp.from, n)
			for lo < hi && x[lo] == y[lo] {
				lo++
			}
			for hi > lo && x[hi-1] == y[hi-1] {
				hi--
			}
			if lo < hi {
				out = append(out, span{sp.from + lo, sp.from + hi})
			}
		}
	}
	return out
}

func (r *Report) elfs(ctx context.Context, t thing, a, b blob, _ changes) error {
	x, y, err := two(a, b, openELF)
	if err != nil {
		return err
	}
	from := len(r.Differences)
	h, g := x.f.FileHeader, y.f.FileHeader
	if h.Class != g.Class || h.Machine != g.Machine || h.Type != g.Type || h.Data != g.Data {
		r.report(t, "ELF header", fmt.Sprint(h.Class, h.Machine, h.Type), fmt.Sprint(g.Class, g.Machine, g.Type), "")
	}
	if h.Entry != g.Entry {
		r.report(t, "entry point", fmt.Sprintf("%#x", h.Entry), fmt.Sprintf("%#x", g.Entry), Follows)
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
		d := sectionDiff{Report: r, t: t, name: name, x: x, y: y, s: x.sections[name], u: y.sections[name]}
		if err := d.compare(ctx); err != nil {
			return fmt.Errorf("section %s: %w", name, err)
		}
	}
	r.settle(from)
	return nil
}

func movedSymbols(a, b []elf.Symbol) bool {
	at := make(map[string]uint64, len(a))
	for _, s := range a {
		if elf.ST_BIND(s.Info) == elf.STB_GLOBAL { // of a local one there may be several
			at[s.Name] = s.Value
		}
	}
	return slices.ContainsFunc(b, func(s elf.Symbol) bool {
		v, ok := at[s.Name]
		return ok && elf.ST_BIND(s.Info) == elf.STB_GLOBAL && v != s.Value
	})
}

func sectionOrder(x, y *program) []string {
	var out []string
	for _, p := range []*program{x, y} {
		names := keys(p.sections, nil)
		slices.SortStableFunc(names, func(m, n string) int {
			return cmp.Compare(p.sections[m].Offset, p.sections[n].Offset)
		})
		for _, n := range names {
			if p == x || x.sections[n] == nil {
				out = append(out, n)
			}
		}
	}
	return out
}

type sectionDiff struct {
	*Report
	t       thing
	name    string
	x, y    *program
	s, u    *elf.Section // nil: the file has none of the name
	a, b    blob         // their content
	changes changes
}

func (d *sectionDiff) tell(where, a, b string, c Cause) { d.report(d.t, d.name+": "+where, a, b, c) }

func (d *sectionDiff) compare(ctx context.Context) error {
	s, u := d.s, d.u
	if s == nil || u == nil {
		show := func(s *elf.Section) string {
			if s == nil {
				return ""
			}
			return byteCount(int64(s.Size))
		}
		d.report(d.t, "section "+d.name, show(s), show(u), "")
		return nil
	}
	if s.Type != u.Type || s.Flags != u.Flags {
		d.tell("kind", fmt.Sprint(s.Type, " ", s.Flags), fmt.Sprint(u.Type, " ", u.Flags), "")
	}
	if s.Type == elf.SHT_NOBITS || u.Type == elf.SHT_NOBITS {
		if s.Size != u.Size {
			d.tell("size", fmt.Sprint(s.Size), fmt.Sprint(u.Size), "")
		}
		return nil
	}
	d.a, d.b = d.x.content(s), d.y.content(u)
	var err error
	if d.changes, err = differ(ctx, d.a, d.b); err != nil || len(d.changes.spans) == 0 && d.a.size == d.b.size {
		return err
	}
	whole := func(c Cause) {
		d.sizes(d.t, fmt.Sprintf("%s: %d bytes differ", d.name, d.changes.bytes), d.a, d.b, c)
	}
	text := s.Flags&elf.SHF_STRINGS != 0 || s.Type == elf.SHT_STRTAB || d.name == ".comment" || d.name == ".modinfo"
	switch {
	case s.Type == elf.SHT_NOTE:
		return d.notes()
	case s.Type == elf.SHT_SYMTAB:
		d.symbols(d.t, d.name, d.x.table(), d.y.table())
	case d.name == ".strtab", d.name == ".shstrtab", s.Type == elf.SHT_RELA, s.Type == elf.SHT_REL:
		whole(Follows) // from the names of symbols and sections, and their addresses
	case text && s.Flags&elf.SHF_COMPRESSED == 0:
		return d.strings(zeroLines)
	case strings.HasPrefix(d.name, ".debug_"), strings.HasPrefix(d.name, ".zdebug_"), derivedSection(d.name):
		whole(pending)
	case s.Flags&elf.SHF_EXECINSTR != 0:
		d.code()
	case d.a.size != d.b.size || d.x.shifted:
		whole(pending) // pointers; what else moved is in the strings
		return d.strings(printables)
	default:
		d.data()
	}
	return nil
}

// pending marks a difference whose cause settle decides.
const pending Cause = "pending"

// settle decides the causes of what follows from other differences, if there are any.
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
		case d.Cause == pending && strings.HasSuffix(d.Where, buildID):
			d.Cause = Random // not a digest of the rest, which is the same
		case d.Cause == pending:
			d.Cause = ""
		}
		if d.Cause == "" && compiler {
			d.Cause = Compiler
		}
	}
}

func (p *program) table() []symbol {
	out := make([]symbol, 0, len(p.symbols))
	for _, y := range p.symbols {
		if y.Name != "" {
			kind := fmt.Sprint(y.Section, elf.ST_TYPE(y.Info), elf.ST_BIND(y.Info))
			out = append(out, symbol{y.Name, y.Value, kind})
		}
	}
	return out
}

func (d *sectionDiff) data() {
	seen, causes := map[string]bool{}, map[Cause]bool{}
	var more []string
	shown := 0
	for _, sp := range d.bySymbol() {
		sym := d.x.at(d.s, sp.from)
		if sym != "" && seen[sym] {
			continue
		}
		seen[sym] = true
		where := d.name + ": " + sym
		if sym == "" {
			where = fmt.Sprintf("%s: byte %#x", d.name, sp.from)
		}
		// Not beyond the symbol: its neighbours are not part of it.
		in := d.x.bounds(d.s, sp.from)
		size := in.to - in.from
		piece := span{sp.from - in.from, min(sp.to-in.from, size)}
		one := d.place(d.t, where, d.a.part(in.from, size), d.b.part(in.from, size), piece)
		if causes[one.Cause] && shown >= maxShown {
			more = append(more, where)
			continue
		}
		causes[one.Cause] = true
		shown++
		d.add(one)
	}
	if len(more) > 0 {
		d.tell(fmt.Sprintf("%d more places", len(more)), count(more), "", pending)
	}
}

// code reports which functions differ in size, or else in bytes, as wherever an address that they use has moved.
func (d *sectionDiff) code() {
	sizes := func(p *program, s *elf.Section) map[string]uint64 {
		m, index := map[string]uint64{}, p.index[s]
		for _, f := range p.symbols {
			if f.Section == index && elf.ST_TYPE(f.Info) == elf.STT_FUNC {
				m[f.Name] += f.Size
			}
		}
		return m
	}
	v, w := sizes(d.x, d.s), sizes(d.y, d.u)
	var grown []string
	for _, f := range keys(v, w) {
		if v[f] != w[f] {
			grown = append(grown, f)
		}
	}
	if len(grown) > 0 {
		d.tell(fmt.Sprintf("%d functions have another size", len(grown)),
			fmt.Sprintf("%s: %d bytes", grown[0], v[grown[0]]),
			fmt.Sprintf("%d bytes (%s)", w[grown[0]], count(grown)), "")
		return
	}
	var names []string
	seen := map[string]bool{}
	for _, sp := range d.changes.spans {
		f := cmp.Or(d.x.at(d.s, sp.from), fmt.Sprintf("byte %#x", sp.from))
		if !seen[f] {
			seen[f] = true
			names = append(names, f)
		}
	}
	cause := Cause("")
	if d.x.shifted {
		cause = pending
	}
	d.tell(fmt.Sprintf("%d places differ, none in size", len(names)), count(names), "", cause)
}

// derivedSections begin the names of sections of nothing but addresses of what is in others.
var derivedSections = []string{
	".eh_frame", ".orc_", "__ex_table", "__bug_table", ".altinstructions", ".smp_locks", "__mcount_loc",
	"__ksymtab", ".init_array", ".fini_array", ".dynamic", ".dynsym", ".got", ".plt", ".hash", ".gnu.hash",
	".gnu.version", ".static_call", "__jump_table", ".retpoline", ".return_sites", ".parainstructions",
}

func derivedSection(name string) bool {
	return slices.ContainsFunc(derivedSections, func(p string) bool { return strings.HasPrefix(name, p) })
}
