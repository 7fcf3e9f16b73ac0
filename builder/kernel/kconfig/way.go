package kconfig

import (
	"maps"
	"slices"
)

// Cause is the kind of reason for which a symbol was not taken.
type Cause int

// The causes.
const (
	Gone     Cause = iota // the tree has no such symbol
	Settable              // other settings bring it, which the reason names
	Kernel                // no setting of this tree brings it
	Compiler              // its conditions are met: what is asked of the compiler is not
)

// Cause is why a symbol is less than what was asked for.
func (t *Tree) Cause(name, requested string, final Config) Cause {
	s := t.Symbols[name]
	if s == nil {
		return Gone
	}
	if s.mistyped(requested, final) != "" {
		return Kernel // its type is another one than where the request comes from
	}
	want := max(triOf(requested), Mod)
	if t.settable(s, final) && !t.taken(s, final) {
		if s.Type == "bool" || s.Type == "tristate" {
			return Compiler
		}
		return Settable // another number
	}
	if _, ok := t.way(s, want, final); ok {
		return Settable
	}
	return Kernel
}

// taken reports whether a symbol is of a choice in which another one is on.
func (t *Tree) taken(s *Symbol, final Config) bool {
	return slices.ContainsFunc(s.Defs, func(d *Def) bool {
		return d.Choice != nil && slices.ContainsFunc(d.Choice.Members, func(m string) bool {
			return m != s.Name && final.Get(m) == "y"
		})
	})
}

// way lists what else has to be set for a symbol to become want, in the order in which it becomes possible. ok is
// false where no way was found: a tree can be cleverer than this.
func (t *Tree) way(s *Symbol, want Tri, final Config) (sets []string, ok bool) {
	w := &wayfinder{t: t, was: final, state: maps.Clone(final), open: map[string]bool{}, left: maxTries}
	if w.state == nil {
		w.state = Config{}
	}
	if s.Type == "bool" || s.Type == "tristate" {
		ok = w.on(s.Name, want)
	} else { // a number or a string needs no more than its prompt
		ok = slices.ContainsFunc(s.Defs, func(d *Def) bool { return d.Prompt != "" && w.shows(s, d, want) })
	}
	if !ok {
		return nil, false
	}
	for _, set := range w.sets {
		if set != s.Name+"=y" && set != s.Name+"=m" {
			sets = append(sets, set)
		}
	}
	return sets, true
}

// maxTries bounds a search, in symbols that are looked at; maxSets what a person would still type.
const (
	maxTries = 400
	maxSets  = 6
)

// compileTest has drivers compile for machines that they do nothing on: no way that anybody wants.
const compileTest = "COMPILE_TEST"

// wayfinder turns symbols on and off in a configuration of its own, and takes back what leads nowhere.
type wayfinder struct {
	t     *Tree
	was   Config
	state Config
	sets  []string
	undo  []func()
	open  map[string]bool // symbols on the way, which must not wait for themselves
	left  int
}

// try undoes what a step changed, should it fail.
func (w *wayfinder) try(step func() bool) bool {
	sets, undo := len(w.sets), len(w.undo)
	if step() && len(w.sets) <= maxSets {
		return true
	}
	for len(w.undo) > undo {
		w.undo[len(w.undo)-1]()
		w.undo = w.undo[:len(w.undo)-1]
	}
	w.sets = w.sets[:sets]
	return false
}

func (w *wayfinder) put(name, value string) {
	was, had := w.state[name]
	w.undo = append(w.undo, func() {
		if had {
			w.state[name] = was
		} else {
			delete(w.state, name)
		}
	})
	w.state[name] = value
}

// turn gives a symbol a value, and what it selects with it.
func (w *wayfinder) turn(name string, to Tri) {
	w.put(name, to.String())
	if to == No {
		return
	}
	for _, other := range w.t.choiceOf(name) {
		w.put(other, "n")
	}
	for _, target := range w.t.selectedBy(name) {
		if triOf(w.state.Get(target.by)) < to && (target.cond == nil || target.cond.eval(w.state) > No) {
			w.turn(target.by, to)
		}
	}
}

// on makes a symbol at least want.
func (w *wayfinder) on(name string, want Tri) bool {
	s := w.t.Symbols[name]
	if triOf(w.state.Get(name)) >= want {
		return true
	}
	if w.left--; s == nil || w.open[name] || w.left < 0 || s.Type != "bool" && s.Type != "tristate" {
		return false
	}
	if name == compileTest {
		return false
	}
	w.open[name] = true
	defer delete(w.open, name)
	if want == Mod && (w.state.Get("MODULES") != "y" || s.Type == "bool") {
		want = Yes
	}
	return want == Mod && w.to(s, Yes) || w.to(s, want) // built in where that can be: there is no initramfs
}

func (w *wayfinder) to(s *Symbol, want Tri) bool {
	name := s.Name
	for _, d := range s.Defs {
		if d.Prompt != "" && w.try(func() bool {
			if !w.shows(s, d, want) {
				return false
			}
			// A choice takes its default as soon as it is there.
			if d.Choice == nil || d.Choice.first != name || cond(d).eval(w.was) > No {
				w.sets = append(w.sets, name+"="+want.String())
			}
			w.turn(name, want)
			return true
		}) {
			return true
		}
	}
	return w.follows(s, want)
}

// cond is what a definition's prompt needs.
func cond(d *Def) Expr {
	if c := both(d.Depends, d.Visible); c != nil {
		return c
	}
	return symbol{name: "y"}
}

// shows has a prompt be shown.
func (w *wayfinder) shows(s *Symbol, d *Def, want Tri) bool {
	return w.try(func() bool { return w.meet(cond(d), needed(s, want)) })
}

// follows makes a symbol on that the tree sets: by a default that is not met yet, or by the only one that selects it.
func (w *wayfinder) follows(s *Symbol, want Tri) bool {
	for _, d := range s.Defs {
		for _, f := range d.defaults {
			cond := both(d.Depends, f.cond)
			if (cond == nil || cond.eval(w.was) >= needed(s, want)) && f.value.eval(w.was) >= want {
				continue // and it is off all the same: the compiler has the last word
			}
			if w.try(func() bool {
				if cond != nil && !w.meet(cond, needed(s, want)) || !w.meet(f.value, want) {
					return false
				}
				w.turn(s.Name, want)
				return true
			}) {
				return true
			}
		}
	}
	by := slices.DeleteFunc(slices.Clone(w.t.selects[s.Name]), func(r reverse) bool {
		return !w.t.Prompted(r.by) && triOf(w.was.Get(r.by)) < want
	})
	if len(by) != 1 {
		return false
	}
	return w.try(func() bool {
		if by[0].cond != nil && !w.meet(by[0].cond, Mod) || !w.on(by[0].by, want) {
			return false
		}
		if triOf(w.was.Get(by[0].by)) >= want { // on before, and what it selects with was not
			w.turn(s.Name, want)
		}
		return triOf(w.state.Get(s.Name)) >= want
	})
}

// off makes a symbol n.
func (w *wayfinder) off(name string) bool {
	s := w.t.Symbols[name]
	if w.state.Get(name) == "n" {
		return true
	}
	if w.left--; s == nil || w.open[name] || w.left < 0 || !w.t.settable(s, w.state) || len(w.t.choiceOf(name)) > 0 {
		return false
	}
	for _, r := range w.t.selects[name] {
		if triOf(w.state.Get(r.by)) > No && (r.cond == nil || r.cond.eval(w.state) > No) {
			return false
		}
	}
	w.sets = append(w.sets, name+"=n")
	w.turn(name, No)
	return true
}

// meet makes a condition at least want.
func (w *wayfinder) meet(e Expr, want Tri) bool {
	if e.eval(w.state) >= want {
		return true
	}
	switch e := e.(type) {
	case symbol:
		return !e.constant() && w.on(e.name, want)
	case not:
		return w.fail(e.x)
	case and:
		return w.try(func() bool { return w.meet(e.x, want) && w.meet(e.y, want) && e.eval(w.state) >= want })
	case or:
		return w.try(func() bool { return w.meet(e.x, want) }) || w.try(func() bool { return w.meet(e.y, want) })
	case comparison:
		return w.compare(e)
	}
	return false
}

// fail makes a condition n.
func (w *wayfinder) fail(e Expr) bool {
	if e.eval(w.state) == No {
		return true
	}
	switch e := e.(type) {
	case symbol:
		return !e.constant() && w.off(e.name)
	case not:
		return w.meet(e.x, Yes)
	case or:
		return w.try(func() bool { return w.fail(e.x) && w.fail(e.y) && e.eval(w.state) == No })
	case and:
		return w.try(func() bool { return w.fail(e.x) }) || w.try(func() bool { return w.fail(e.y) })
	}
	return false
}

// compare meets a comparison with one of the three values.
func (w *wayfinder) compare(c comparison) bool {
	x, okX := c.x.(symbol)
	y, okY := c.y.(symbol)
	if !okX || !okY || x.constant() {
		return false
	}
	switch c.op + y.name {
	case "=y":
		return w.on(x.name, Yes)
	case "!=n":
		return w.on(x.name, Mod)
	case "=n", "!=y":
		return w.off(x.name)
	}
	return false
}

// choiceOf lists the other members of the choices that a symbol is in.
func (t *Tree) choiceOf(name string) (members []string) {
	if s := t.Symbols[name]; s != nil {
		for _, d := range s.Defs {
			if d.Choice != nil {
				members = append(members, others(d.Choice.Members, name)...)
			}
		}
	}
	return members
}

// selectedBy lists what a symbol selects: by is the one that is selected here.
func (t *Tree) selectedBy(name string) []reverse {
	if t.forward == nil {
		t.forward = map[string][]reverse{}
		for target, list := range t.selects {
			for _, r := range list {
				t.forward[r.by] = append(t.forward[r.by], reverse{target, r.cond})
			}
		}
	}
	return t.forward[name]
}

// Beneath names the nearest of the symbols that another one hangs on, by what it depends on or by who selects that;
// empty: it hangs on none of them.
func (t *Tree) Beneath(name string, of func(symbol string) bool) string {
	seen, level := map[string]bool{name: true}, []string{name}
	for range maxChain {
		var next []string
		for _, n := range level {
			s := t.Symbols[n]
			if s == nil {
				continue
			}
			var names []string
			for _, d := range s.Defs {
				names = symbolsOf(both(d.Depends, d.Visible), append(names, t.choiceOf(n)...))
			}
			if !t.prompted(s) {
				for _, r := range t.selects[n] {
					names = append(names, r.by)
				}
			}
			for _, m := range names {
				if of(m) {
					return m
				}
				if !seen[m] {
					seen[m], next = true, append(next, m)
				}
			}
		}
		level = next
	}
	return ""
}

// symbolsOf adds the names in a condition to list.
func symbolsOf(e Expr, list []string) []string {
	switch e := e.(type) {
	case symbol:
		if !e.constant() {
			list = append(list, e.name)
		}
	case not:
		list = symbolsOf(e.x, list)
	case and:
		list = symbolsOf(e.y, symbolsOf(e.x, list))
	case or:
		list = symbolsOf(e.y, symbolsOf(e.x, list))
	case comparison:
		list = symbolsOf(e.y, symbolsOf(e.x, list))
	}
	return list
}
