package compare

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/kimg/kimg/builder/kernel/kconfig"
	"github.com/kimg/kimg/internal/artifact"
)

// maxText bounds a text that is compared by lines, in bytes.
const maxText = 64 << 20

// isText reports whether a file that begins so is text in UTF-8.
func isText(_ thing, head []byte) bool {
	if bytes.IndexByte(head, 0) >= 0 {
		return false
	}
	for len(head) > 0 {
		r, n := utf8.DecodeRune(head)
		if r == utf8.RuneError && n == 1 && len(head) >= utf8.UTFMax {
			return false
		}
		head = head[n:]
	}
	return true
}

func (r *Report) texts(_ context.Context, t thing, a, b blob, _ changes) error {
	x, y, err := two(a, b, func(b blob) ([]byte, error) { return b.bytes(maxText) })
	if err != nil {
		return err
	}
	r.lines(t, "line", string(x), string(y))
	return nil
}

// lines compares two texts by lines; what is the report's word for one.
func (r *Report) lines(t thing, what, x, y string) {
	if c := reordered(x, y); c != "" {
		line, l, m := firstLine(x, y)
		l, m = excerpt(l, m)
		r.report(t, fmt.Sprintf("%s %d", what, line), strconv.Quote(l), strconv.Quote(m), c)
		return
	}
	seen := map[Cause]bool{}
	pairs, more := linePairs(x, y)
	for _, p := range pairs {
		causes := causesOf(p.a, p.b)
		if len(causes) == 0 {
			causes = []Cause{nameCause(t.where + "/" + t.base)}
		}
		p.a, p.b = excerpt(p.a, p.b)
		for _, c := range causes {
			if !seen[c] { // one line of each cause: a text may be long
				seen[c] = true
				r.report(t, fmt.Sprintf("%s %d", what, p.line), p.show(p.a, p.hasA), p.show(p.b, p.hasB), c)
			}
		}
	}
	if rest := len(pairs) + more - 1; rest > 0 && len(pairs) > len(seen) {
		r.report(t, "more, by "+what, fmt.Sprintf("%d differ in all", rest+1), "", Follows)
	}
}

func nameCause(name string) Cause {
	switch path.Base(name) {
	case "hostname", "mailname", "hosts":
		return Host
	}
	return ""
}

func firstLine(a, b string) (n int, x, y string) {
	l, m := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(l), len(m)) {
		if l[i] != m[i] {
			return i + 1, l[i], m[i]
		}
	}
	return min(len(l), len(m)) + 1, "", ""
}

// linePair is a line of A and the line of B in its place; one of them may be missing.
type linePair struct {
	line       int // of A, or of B where A has none
	a, b       string
	hasA, hasB bool
}

func (p linePair) show(s string, has bool) string {
	if !has {
		return ""
	}
	return strconv.Quote(s)
}

// maxPairs is how many lines of a text are looked into.
const maxPairs = 1000

// linePairs pairs the lines that only one of two texts has. more is how many there are beyond those returned.
func linePairs(a, b string) (out []linePair, more int) {
	type line struct {
		n int
		s string
	}
	only := func(s, other string) []line {
		count := map[string]int{}
		for l := range strings.Lines(other) {
			count[l]++
		}
		var out []line
		n := 0
		for l := range strings.Lines(s) {
			if n++; count[l] > 0 {
				count[l]--
				continue
			}
			out = append(out, line{n, strings.TrimSuffix(l, "\n")})
		}
		return out
	}
	x, y := only(a, b), only(b, a)
	for i := range max(len(x), len(y)) {
		if i == maxPairs {
			return out, max(len(x), len(y)) - i
		}
		var p linePair
		if i < len(y) {
			p.line, p.b, p.hasB = y[i].n, y[i].s, true
		}
		if i < len(x) {
			p.line, p.a, p.hasA = x[i].n, x[i].s, true
		}
		out = append(out, p)
	}
	return out, 0
}

func isConfig(t thing, head []byte) bool {
	found := bytes.Contains(head, []byte("\nCONFIG_")) || bytes.Contains(head, []byte("# CONFIG_"))
	return found && isText(t, head)
}

// compilerSymbols are filled in by Kconfig from the compiler that it found (the kernel's init/Kconfig).
var compilerSymbols = regexp.MustCompile(
	`^(?:CC|GCC|CLANG|AS|LD|LLD|RUSTC|PAHOLE|BINDGEN)_(?:VERSION|VERSION_TEXT|HAS_\w+|IS_\w+|CAN_\w+)$` +
		`|^(?:TOOLS_SUPPORT|GCC\d*_NO)_\w+$`)

func (r *Report) configs(_ context.Context, t thing, a, b blob, _ changes) error {
	x, y, err := two(a, b, readConfig)
	if err != nil {
		return err
	}
	n := 0
	for _, k := range keys(x.symbols, y.symbols) {
		v, w := x.symbols[k], y.symbols[k]
		if v == w {
			continue
		}
		cause := Config
		if compilerSymbols.MatchString(k) {
			cause = Compiler
		}
		n++
		r.report(t, "CONFIG_"+k, v, w, cause)
	}
	if n == 0 && slices.Equal(x.rest, y.rest) {
		r.report(t, "order of symbols", "", "", Order)
	}
	pairs, _ := linePairs(strings.Join(x.rest, "\n"), strings.Join(y.rest, "\n"))
	for _, p := range pairs[:min(len(pairs), maxShown)] {
		r.report(t, "comment", p.a, p.b, first(causesOf(p.a, p.b)))
	}
	return nil
}

// dotConfig is a .config: the values of symbols, and the lines that set none.
type dotConfig struct {
	symbols map[string]string
	rest    []string
}

func readConfig(b blob) (c dotConfig, err error) {
	p, err := b.bytes(maxText)
	if err != nil {
		return c, err
	}
	c.symbols = map[string]string{}
	for line := range strings.Lines(string(p)) {
		if name, value := kconfig.ParseLine(line); name != "" {
			c.symbols[name] = value
		} else {
			c.rest = append(c.rest, strings.TrimRight(line, "\n"))
		}
	}
	return c, nil
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

func (r *Report) systemMaps(_ context.Context, t thing, a, b blob, _ changes) error {
	x, y, err := two(a, b, readMap)
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
		value, _ := strconv.ParseUint(m[1], 16, 64) // 16 digits at most
		out = append(out, symbol{m[3], value, m[2]})
	}
	return out, nil
}

// symbols compares two tables. Names that occur more than once, as static functions', are told apart by their order.
func (r *Report) symbols(t thing, table string, a, b []symbol) {
	t.where = t.at(table)
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
	var moved, kinds, removed, added []string
	var example symbol
	var to uint64
	for _, k := range orderA {
		s := x[k]
		switch other, ok := y[k]; {
		case !ok:
			removed = append(removed, s.name)
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
			added = append(added, k.name)
		}
	}
	if len(removed) > 0 {
		r.report(t, "symbols only in A", count(removed), "", "")
	}
	if len(added) > 0 {
		r.report(t, "symbols only in B", "", count(added), "")
	}
	if len(kinds) > 0 {
		r.report(t, "symbols of another kind", count(kinds), "", "")
	}
	if len(moved) > 0 {
		r.report(t, plural(len(moved), "symbol")+" moved, the first is "+example.name,
			fmt.Sprintf("%#x", example.value), fmt.Sprintf("%#x", to), Follows)
	}
	if len(removed)+len(added)+len(moved)+len(kinds) == 0 && len(a) == len(b) && !slices.Equal(a, b) {
		r.report(t, "order of symbols", "", "", Order)
	}
}

func count(names []string) string {
	const few = 5
	l := slices.Clone(names[:min(few, len(names))])
	if more := len(names) - len(l); more > 0 {
		l = append(l, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(l, ", ")
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
