package compare

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/kimg/kimg/internal/artifact"
)

func isConfig(t thing, head []byte) bool {
	return isText(t, head) && (bytes.Contains(head, []byte("\nCONFIG_")) || bytes.Contains(head, []byte("# CONFIG_")))
}

// configLine is a line of a .config: a symbol that is set, or one that is not
// (the kernel's scripts/kconfig/confdata.c).
var configLine = regexp.MustCompile(`^(?:CONFIG_(\w+)=(.*)|# CONFIG_(\w+) is not set)$`)

// compilerSymbols are filled in from the compiler that Kconfig found
// (the kernel's init/Kconfig), and of no person's making.
var compilerSymbols = regexp.MustCompile(`^(?:CC|GCC|CLANG|AS|LD|LLD|RUSTC|PAHOLE|BINDGEN)_(?:VERSION|VERSION_TEXT|HAS_\w+|IS_\w+|CAN_\w+)$|^(?:TOOLS_SUPPORT|GCC\d*_NO)_\w+$`)

// configs compares two kernel configs, symbol by symbol.
func (r *Report) configs(_ context.Context, t thing, a, b blob, _ changes) error {
	x, restA, err := readConfig(a)
	if err != nil {
		return err
	}
	y, restB, err := readConfig(b)
	if err != nil {
		return err
	}
	n := 0
	for _, k := range keys(x, y) {
		if x[k] == y[k] {
			continue
		}
		cause := Config
		if compilerSymbols.MatchString(k) {
			cause = Compiler
		}
		n++
		r.add(Difference{t.artifact, t.at("CONFIG_" + k), x[k], y[k], cause})
	}
	if n == 0 && slices.Equal(restA, restB) {
		r.add(Difference{t.artifact, t.at("order of symbols"), "", "", Order})
	}
	for _, p := range firstPairs(restA, restB) {
		r.add(Difference{t.artifact, t.at("comment"), p[0], p[1], first(causesOf(p[0], p[1]))})
	}
	return nil
}

// firstPairs are the lines that differ between two lists, a few of them.
func firstPairs(a, b []string) [][2]string {
	var out [][2]string
	pairs, _ := linePairs(strings.Join(a, "\n"), strings.Join(b, "\n"))
	for _, p := range pairs[:min(len(pairs), maxShown)] {
		out = append(out, [2]string{p.a, p.b})
	}
	return out
}

func readConfig(b blob) (symbols map[string]string, rest []string, err error) {
	p, err := b.bytes(maxText)
	if err != nil {
		return nil, nil, err
	}
	symbols = map[string]string{}
	for line := range strings.Lines(string(p)) {
		line = strings.TrimRight(line, "\n")
		switch m := configLine.FindStringSubmatch(line); {
		case m == nil:
			rest = append(rest, line)
		case m[3] != "":
			symbols[m[3]] = "n"
		default:
			symbols[m[1]] = m[2]
		}
	}
	return symbols, rest, nil
}

var mapLine = regexp.MustCompile(`^([0-9a-fA-F]{8,16}) (\S) (\S+)`)

func isSystemMap(t thing, head []byte) bool {
	return strings.HasPrefix(t.base, artifact.SystemMap) && mapLine.Match(head)
}

// symbol is a line of a System.map or of an ELF file's table.
type symbol struct {
	name  string
	value uint64
	kind  string // nm's letter; in ELF, section and type
}

// systemMaps compares two System.maps: which symbols came, went and moved.
func (r *Report) systemMaps(_ context.Context, t thing, a, b blob, _ changes) error {
	x, err := readMap(a)
	if err != nil {
		return err
	}
	y, err := readMap(b)
	if err != nil {
		return err
	}
	r.symbols(t, "", x, y)
	return nil
}

func readMap(b blob) ([]symbol, error) {
	p, err := b.bytes(maxText)
	if err != nil {
		return nil, err
	}
	var out []symbol
	for line := range strings.Lines(string(p)) {
		m := mapLine.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("%w: a line %q", errOpaque, short(strings.TrimSpace(line)))
		}
		s := symbol{name: m[3], kind: m[2]}
		if _, err := fmt.Sscanf(m[1], "%x", &s.value); err != nil {
			return nil, fmt.Errorf("%w: a line %q", errOpaque, short(line))
		}
		out = append(out, s)
	}
	return out, nil
}

// symbols compares two tables. Names that are there more than once, as static
// functions are, are told apart by their order.
func (r *Report) symbols(t thing, table string, a, b []symbol) {
	type key struct {
		name string
		nth  int
	}
	index := func(l []symbol) (map[key]symbol, []key) {
		m, seen, order := make(map[key]symbol, len(l)), map[string]int{}, make([]key, 0, len(l))
		for _, s := range l {
			k := key{s.name, seen[s.name]}
			seen[s.name]++
			m[k] = s
			order = append(order, k)
		}
		return m, order
	}
	x, orderA := index(a)
	y, orderB := index(b)
	var moved, kinds, gone, come []string
	var example symbol
	var to uint64
	for _, k := range orderA {
		s, other := x[k], y[k]
		switch _, ok := y[k]; {
		case !ok:
			gone = append(gone, s.name)
		case s.value != other.value:
			if len(moved) == 0 {
				example, to = s, other.value
			}
			moved = append(moved, s.name)
		case s.kind != other.kind:
			kinds = append(kinds, s.name)
		}
	}
	for _, k := range orderB {
		if _, ok := x[k]; !ok {
			come = append(come, k.name)
		}
	}
	where := func(s string) string { return t.at(strings.TrimPrefix(table+": "+s, ": ")) }
	if len(gone) > 0 {
		r.add(Difference{t.artifact, where("symbols only in A"), count(gone), "", ""})
	}
	if len(come) > 0 {
		r.add(Difference{t.artifact, where("symbols only in B"), "", count(come), ""})
	}
	if len(kinds) > 0 {
		r.add(Difference{t.artifact, where("symbols of another kind"), count(kinds), "", ""})
	}
	if len(moved) > 0 {
		r.add(Difference{t.artifact, where(fmt.Sprintf("%d symbols moved, the first is %s", len(moved), example.name)),
			fmt.Sprintf("%#x", example.value), fmt.Sprintf("%#x", to), Follows})
	}
	if len(gone)+len(come)+len(moved)+len(kinds) == 0 && len(a) == len(b) && !slices.Equal(a, b) {
		r.add(Difference{t.artifact, where("order of symbols"), "", "", Order})
	}
}

// count tells how many names there are, and the first of them.
func count(names []string) string {
	const few = 5
	l := slices.Clone(names[:min(few, len(names))])
	if more := len(names) - len(l); more > 0 {
		l = append(l, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(l, ", ")
}
