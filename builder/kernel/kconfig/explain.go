package kconfig

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/kimg/kimg/internal/editdist"
)

// Explain says in words why a symbol that was asked for with one value has another in the final configuration. It
// gives the nearest cause that the user can act on; where it finds none it says so.
func (t *Tree) Explain(name, requested string, final Config) string {
	s := t.Symbols[name]
	if s == nil {
		return t.unknown(name)
	}
	tri := s.Type == "bool" || s.Type == "tristate"
	if why := s.mistyped(requested, final); why != "" {
		return why
	}
	switch want := triOf(requested); {
	case tri && want < triOf(final.Get(name)):
		return t.whyOn(s, want, final)
	case !tri && !t.prompted(s):
		return t.follows(s, requested)
	default:
		return t.whyOff(s, max(want, Mod), final, 0)
	}
}

// mistyped says what a symbol takes, where that is of another type than what was asked for.
func (s *Symbol) mistyped(requested string, final Config) string {
	yes := requested == "y" || requested == "m"
	switch s.Type {
	case "bool":
		if !yes && requested != "n" || requested == "m" && final.Get(s.Name) == "n" {
			return s.Name + " is a bool: y or n"
		}
	case "tristate":
		if !yes && requested != "n" {
			return s.Name + " is a tristate: y, m or n"
		}
	case "":
	default:
		if yes {
			return fmt.Sprintf("%s takes a value of type %s", s.Name, s.Type)
		}
	}
	return ""
}

func (t *Tree) whyOn(s *Symbol, want Tri, final Config) string {
	if want == Mod {
		return "it is built in: " + t.notAModule(s, final)
	}
	var by []string
	for _, r := range t.selects[s.Name] {
		if triOf(final.Get(r.by)) > want && (r.cond == nil || r.cond.eval(final) > want) {
			by = append(by, r.by)
		}
	}
	if len(by) > 0 {
		slices.Sort(by)
		why := "it is selected by " + list(by, "and") + ", which " + isAre(len(by)) + " on"
		if first := t.Symbols[by[0]]; len(by) == 1 && first != nil && t.settable(first, final) {
			why += "; --set " + by[0] + "=n turns it off"
		}
		return why
	}
	for _, d := range s.Defs {
		if d.Choice != nil {
			return fmt.Sprintf("it is the default of the choice %q: turn another one on: %s",
				d.Choice.Prompt, list(others(d.Choice.Members, s.Name), "or"))
		}
	}
	if !t.prompted(s) {
		return "it has no prompt: the tree sets it by itself"
	}
	return t.hidden(s, final, "its default stands")
}

// follows explains a number or a text that nobody is asked for: HZ is 300 with HZ_300, a member of a choice.
func (t *Tree) follows(s *Symbol, requested string) string {
	const no = "it has no prompt: "
	var with []string
	for _, d := range s.Defs {
		for _, f := range d.defaults {
			value, plain := f.value.(symbol)
			by, one := f.cond.(symbol)
			if !plain || !one || by.constant() || !t.Prompted(by.name) {
				continue
			}
			if value.name == strings.Trim(requested, `"`) {
				return no + "--set " + by.name + "=y makes it that"
			}
			with = append(with, value.name+" with "+by.name)
		}
	}
	if len(with) == 0 {
		return no + "the tree sets it by itself"
	}
	return no + "it is " + some(with)
}

func (t *Tree) notAModule(s *Symbol, final Config) string {
	if s.Type == "bool" {
		return "it cannot be a module"
	}
	if final.Get("MODULES") != "y" {
		return "MODULES is n, so nothing is a module"
	}
	return "something that is built in selects it"
}

// whyOff explains a symbol that is less than, or not what, was asked for; depth is how far it is from the question.
func (t *Tree) whyOff(s *Symbol, want Tri, final Config, depth int) string {
	want = needed(s, want)
	best := ""
	for _, d := range s.Defs {
		cond := both(d.Depends, d.Visible)
		var missing []Expr
		for _, c := range conjuncts(cond) {
			modules := final.Get("MODULES")
			switch {
			case c == onlyModule && modules != "y":
				return "it can only be a module, and MODULES is " + modules
			case c == onlyModule && want == Yes:
				return "it can only be a module"
			case c.eval(final) < want:
				missing = append(missing, c)
			}
		}
		if len(missing) > 0 {
			if why := t.missing(s, missing, want, final, depth); best == "" || d.Prompt != "" {
				best = why
			}
			continue
		}
		if d.Choice != nil {
			for _, m := range d.Choice.Members {
				if m != s.Name && final.Get(m) == "y" {
					return fmt.Sprintf("it is one of the choice %q, in which %s was taken", d.Choice.Prompt, m)
				}
			}
		}
		if d.Prompt != "" {
			best = ""
			break
		}
	}
	if best != "" {
		return best
	}
	if !t.prompted(s) {
		return t.unselected(s, want, final)
	}
	if s.Type != "bool" && s.Type != "tristate" {
		return t.misfit(s, final)
	}
	return "its Kconfig does not say why; a test of the compiler may have failed"
}

// unselected explains a symbol without a prompt that nothing selects as things stand.
func (t *Tree) unselected(s *Symbol, want Tri, final Config) string {
	var by, when []string
	for _, r := range t.selects[s.Name] {
		by = append(by, r.by)
		if triOf(final.Get(r.by)) >= want && r.cond != nil {
			when = append(when, describe(r.cond, final))
		}
	}
	slices.Sort(by)
	switch by = slices.Compact(by); {
	case len(by) == 0:
		return "it has no prompt: the tree sets it by itself"
	case len(by) == 1 && len(when) > 0: // it is on: what it selects with is not
		why := "it has no prompt: " + by[0] + " selects it with " + list(when, "or")
		if sets, ok := t.way(s, want, final); ok && len(sets) > 0 {
			why += "; --set " + strings.Join(sets, " --set ") + " does that"
		}
		return why
	}
	return "it has no prompt: only " + some(by) + " can select it"
}

// onlyModule is the condition of what cannot be built in.
var onlyModule Expr = symbol{name: "m"}

// needed is what the conditions of a symbol must be for it to become want. Those of a symbol that is no tristate
// are met where they are m (sym_calc_visibility in scripts/kconfig/symbol.c).
func needed(s *Symbol, want Tri) Tri {
	if s.Type != "tristate" {
		return min(want, Mod)
	}
	return want
}

// misfit explains a number or a string that was not taken.
func (t *Tree) misfit(s *Symbol, final Config) string {
	for _, d := range s.Defs {
		for _, r := range d.ranges {
			if r.cond == nil || r.cond.eval(final) > No {
				return fmt.Sprintf("it takes a value of type %s from %s to %s",
					s.Type, bound(r.low, final), bound(r.high, final))
			}
		}
	}
	return "it takes a value of type " + s.Type
}

// bound is an end of a range: a number, or a symbol that stands for one.
func bound(s string, final Config) string {
	if v, ok := final[s]; ok {
		return v
	}
	return s
}

// maxChain is how far a chain of unmet dependencies is followed.
const maxChain = 5

// missing words the conditions that are not met, and the way out; for a lone symbol without one, why it is not on.
func (t *Tree) missing(s *Symbol, conds []Expr, want Tri, final Config, depth int) string {
	var words []string
	for _, c := range conds {
		w := describe(c, final)
		if _, ok := c.(or); ok && len(conds) > 1 {
			w = "(" + w + ")"
		}
		if !slices.Contains(words, w) {
			words = append(words, w)
		}
	}
	why := "it depends on " + list(words, "and")
	if sets, ok := t.way(s, want, final); ok && len(sets) > 0 {
		turn := "turns"
		if len(sets) > 1 {
			turn = "together turn"
		}
		return why + "; --set " + strings.Join(sets, " --set ") + " " + turn + " that on"
	}
	if off, ok := conds[0].(not); ok && len(words) == 1 {
		if sym, ok := off.x.(symbol); ok && t.Symbols[sym.name] != nil {
			if by := t.whyOn(t.Symbols[sym.name], No, final); by == ofArchitecture {
				return why + "; " + sym.name + ": " + by
			}
		}
	}
	sym, ok := conds[0].(symbol)
	if !ok || len(words) != 1 || depth >= maxChain {
		return why
	}
	next := t.Symbols[sym.name]
	if next == nil {
		return why + "; this kernel has no " + sym.name
	}
	return why + "; " + sym.name + ": " + t.whyOff(next, want, final, depth+1)
}

// settable reports whether the user can turn a symbol on as things stand.
func (t *Tree) settable(s *Symbol, final Config) bool {
	return slices.ContainsFunc(s.Defs, func(d *Def) bool {
		cond := both(d.Depends, d.Visible)
		return d.Prompt != "" && (cond == nil || cond.eval(final) >= needed(s, Yes))
	})
}

// Prompted reports whether a symbol has a prompt: the tree sets others by itself.
func (t *Tree) Prompted(name string) bool {
	s := t.Symbols[name]
	return s != nil && t.prompted(s)
}

func (t *Tree) prompted(s *Symbol) bool {
	return slices.ContainsFunc(s.Defs, func(d *Def) bool { return d.Prompt != "" })
}

// ofArchitecture says that a symbol is shown for other architectures only: 64BIT, where make's ARCH is x86.
const ofArchitecture = "the architecture that is built for decides it (--arch)"

// hidden explains a symbol whose prompt is not shown.
func (t *Tree) hidden(s *Symbol, final Config, otherwise string) string {
	for _, d := range s.Defs {
		for _, c := range conjuncts(both(d.Depends, d.Visible)) {
			if x, ok := c.(comparison); ok && d.Prompt != "" && c.eval(final) == No && x.fixed() {
				return ofArchitecture
			}
			if d.Prompt != "" && c.eval(final) == No {
				return "it can only be changed with " + describe(c, final)
			}
		}
	}
	return otherwise
}

func describe(e Expr, final Config) string {
	switch e := e.(type) {
	case symbol:
		if e.constant() {
			return e.String()
		}
		return fmt.Sprintf("%s (which is %s)", e.name, final.Get(e.name))
	case not:
		if s, ok := e.x.(symbol); ok {
			return fmt.Sprintf("%s being off (it is %s)", s.name, final.Get(s.name))
		}
		return "the opposite of (" + e.x.String() + ")"
	case or:
		return operand(e.x, final, false) + " or " + operand(e.y, final, false)
	case and:
		return operand(e.x, final, true) + " and " + operand(e.y, final, true)
	case comparison:
		if s, ok := e.x.(symbol); ok && !s.constant() {
			return fmt.Sprintf("%s (%s is %s)", e, s.name, final.Get(s.name))
		}
	}
	return e.String()
}

// operand words one side of an and, or of an or, in parentheses where it is of the other kind.
func operand(e Expr, final Config, ofAnd bool) string {
	_, isAnd := e.(and)
	_, isOr := e.(or)
	if ofAnd && isOr || !ofAnd && isAnd {
		return "(" + describe(e, final) + ")"
	}
	return describe(e, final)
}

var definitionRE = regexp.MustCompile(`(?m)^[ \t]*(?:menu)?config[ \t]+([A-Za-z0-9_]+)[ \t]*(?:#.*)?$`)

// Elsewhere notes the symbols of other architectures, so that "no such symbol" can say where there is one.
func (t *Tree) Elsewhere(tree Files) {
	for name, data := range tree {
		if t.read[name] || strings.Contains(name, "/tests/") { // Kconfig's own have symbols of nobody's
			continue
		}
		for _, m := range definitionRE.FindAllSubmatch(data, -1) {
			sym := string(m[1])
			if at := t.elsewhere[sym]; t.Symbols[sym] == nil && (at == "" || name < at) {
				t.elsewhere[sym] = name
			}
		}
	}
}

func (t *Tree) unknown(name string) string {
	if file, ok := t.elsewhere[name]; ok {
		return "this architecture has no such symbol: it is in " + file
	}
	near := t.Near(name)
	switch {
	case len(near) == 1 && strings.EqualFold(near[0], name):
		return "no such symbol: " + near[0] + " differs by case only"
	case len(near) > 0:
		return "no such symbol (did you mean " + list(near, "or") + "?)"
	}
	return "no such symbol"
}

// Absent reports whether no architecture has a symbol; that of another one is known after Elsewhere.
func (t *Tree) Absent(name string) bool { return t.Symbols[name] == nil && t.elsewhere[name] == "" }

// shortWord is the least length of a name that others are searched for in their middle, in bytes.
const shortWord = 4

// Near are the symbols that were probably meant by a name that is none, the likeliest first, three at most: the one
// that differs by case only, else those with a prompt that have the name as whole words in theirs, and the nearest. A
// short name has to be their first word.
func (t *Tree) Near(name string) []string {
	var around []string
	for s := range t.Symbols {
		if strings.EqualFold(s, name) {
			return []string{s}
		}
		words := strings.Contains("_"+s+"_", "_"+strings.ToUpper(name)+"_")
		if len(name) < shortWord { // more have such a word in them than were meant, and fewer begin with it
			words = strings.HasPrefix(s, strings.ToUpper(name)+"_")
		}
		if words && t.Prompted(s) {
			around = append(around, s)
		}
	}
	slices.SortFunc(around, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) })
	near := around[:min(2, len(around))]
	if len(name) < shortWord && len(near) > 0 { // of so few letters, one that is another makes another word
		return near
	}
	nearest := editdist.Nearest(strings.ToUpper(name), maps.Keys(t.Symbols), min(3, len(name)/3))
	if nearest != "" && !slices.Contains(near, nearest) {
		near = append(near, nearest)
	}
	return near
}

func others(all []string, but string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == but })
}

func list(words []string, join string) string {
	switch n := len(words); n {
	case 0:
		return ""
	case 1:
		return words[0]
	default:
		return strings.Join(words[:n-1], ", ") + " " + join + " " + words[n-1]
	}
}

// some is a list that is cut where it grows long.
func some(words []string) string {
	if len(words) > 6 {
		return strings.Join(words[:6], ", ") + " and " + strconv.Itoa(len(words)-6) + " more"
	}
	return list(words, "or")
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}
