package archive

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"pault.ag/go/debian/dependency"
	"pault.ag/go/debian/version"
)

type provision struct {
	pkg     int    // place in Index.packages
	version string // of what is provided; "": unversioned
}

// providers lists who provides a virtual package, best first: by priority, as apt does, then by name.
func (x *Index) providers(name string) []provision {
	x.once.Do(func() {
		x.provided = make(map[string][]provision)
		for i, p := range x.packages {
			if p.Provides == "" || x.byName[p.Name][0] != i {
				continue // an older version does not stand in for anything
			}
			for _, target := range alternativesOf(p.Provides) {
				t := target[0]
				v := ""
				if t.Version != nil {
					v = t.Version.Number
				}
				x.provided[t.Name] = append(x.provided[t.Name], provision{i, v})
			}
		}
		for _, all := range x.provided {
			slices.SortStableFunc(all, func(a, b provision) int {
				p, q := x.packages[a.pkg], x.packages[b.pkg]
				return cmp.Or(cmp.Compare(rank(p.Priority), rank(q.Priority)), cmp.Compare(p.Name, q.Name))
			})
		}
	})
	return x.provided[name]
}

// rank orders priorities, Debian policy 2.5.
func rank(priority string) int {
	ranks := []string{"required", "important", "standard", "optional", "extra"}
	if i := slices.Index(ranks, priority); i >= 0 {
		return i
	}
	return len(ranks)
}

// alternativesOf reads a relationship field; one that cannot be read is empty, but see checkRelations.
func alternativesOf(field string) [][]dependency.Possibility {
	d, err := dependency.Parse(field)
	if field == "" || err != nil {
		return nil
	}
	var all [][]dependency.Possibility
	for _, r := range d.Relations {
		if len(r.Possibilities) > 0 {
			all = append(all, r.Possibilities)
		}
	}
	return all
}

// checkRelations refuses a package whose relationships cannot be read.
func checkRelations(p Package) error {
	for _, field := range []string{p.PreDepends, p.Depends, p.Conflicts, p.Breaks, p.Provides} {
		if _, err := dependency.Parse(field); field != "" && err != nil {
			return fmt.Errorf("read what package %s relates to (%.80q): %w", p.Name, field, err)
		}
	}
	return nil
}

// Install computes what apt-get install --no-install-recommends would install for names ("gcc-12", or
// "gcc-12=12.2.0-14" for one version) where have (names of packages of this index) is installed already: a set that
// dpkg can configure, sorted by name. Where a dependency has alternatives, one that is there counts first, then the
// first that the suite has. It does not revise a choice, as apt does: it reports the conflict.
func (x *Index) Install(names []string, have map[string]bool) ([]Package, error) {
	in := installation{x: x, chosen: make(map[string]int), fresh: make(map[string]bool),
		bad: make(map[int][]dependency.Possibility)}
	for name := range have {
		if same := x.byName[name]; len(same) > 0 {
			in.chosen[name] = same[0] // what is installed has what it needs
		}
	}
	for _, name := range names {
		if err := in.want(name); err != nil {
			return nil, err
		}
	}
	if err := in.settle(); err != nil {
		return nil, err
	}
	if err := in.checkConflicts(); err != nil {
		return nil, err
	}
	var all []Package
	for _, name := range slices.Sorted(maps.Keys(in.fresh)) {
		all = append(all, x.packages[in.chosen[name]])
	}
	return all, nil
}

// installation is a set of packages that grows until nothing is missing.
type installation struct {
	x      *Index
	chosen map[string]int                   // places in x.packages, by name
	fresh  map[string]bool                  // names of chosen that were not there before
	todo   []int                            // those whose dependencies were not looked at yet
	bad    map[int][]dependency.Possibility // see excluded
}

func (in *installation) add(i int) {
	name := in.x.packages[i].Name
	in.chosen[name], in.fresh[name] = i, true
	in.todo = append(in.todo, i)
}

// want adds what the caller named.
func (in *installation) want(spec string) error {
	name, exact, _ := CutVersion(spec)
	for _, i := range in.x.byName[name] {
		if exact == "" || in.x.packages[i].Version == exact {
			if _, there := in.chosen[name]; !there {
				in.add(i)
			}
			return nil
		}
	}
	if p, ok := in.x.Lookup(name); ok {
		return fmt.Errorf("find package %s: the suite has %s, not %s", name, p.Version, exact)
	}
	if by := in.x.providers(name); len(by) == 1 {
		in.add(by[0].pkg) // as apt does where there is no choice
		return nil
	}
	return fmt.Errorf("find packages: %s", in.x.describeMissing(name))
}

// DependError is a package that needs what there is not.
type DependError struct{ Package, why string }

func (e *DependError) Error() string { return "install " + e.Package + ": " + e.why }

// Hint says where it may be had.
func (e *DependError) Hint() string {
	return "--archive reads another archive, --components more of this one, and --include takes .deb files, too"
}

// settle adds what is needed until nothing is missing.
func (in *installation) settle() error {
	for len(in.todo) > 0 {
		i := in.todo[0]
		in.todo = in.todo[1:]
		if err := in.satisfy(in.x.packages[i]); err != nil {
			return err
		}
	}
	return nil
}

// satisfy adds what p needs and is not there yet.
func (in *installation) satisfy(p Package) error {
	if err := checkRelations(p); err != nil {
		return err
	}
	for _, field := range []string{p.PreDepends, p.Depends} {
		for _, alternatives := range alternativesOf(field) {
			if slices.ContainsFunc(alternatives, in.isMet) {
				continue
			}
			i, ok := in.choose(alternatives)
			relation := dependency.Relation{Possibilities: alternatives}
			if other := in.otherVersion(alternatives); !ok && other != "" {
				return &DependError{p.Name, fmt.Sprintf("it depends on %s%s: include %s, too", relation,
					in.instead(alternatives), other)}
			}
			if !ok {
				return &DependError{p.Name, fmt.Sprintf("it depends on %s, which the suite does not have%s", relation,
					in.instead(alternatives))}
			}
			in.add(i)
		}
	}
	return nil
}

// otherVersion is a package that is there in another version than what was chosen, as it is included: "libc=1".
func (in *installation) otherVersion(alternatives []dependency.Possibility) string {
	for _, want := range alternatives {
		for _, i := range in.x.byName[want.Name] {
			if in.x.is(i, want) {
				return want.Name + "=" + in.x.packages[i].Version
			}
		}
	}
	return ""
}

// instead says what there is of what is needed: other versions.
func (in *installation) instead(alternatives []dependency.Possibility) string {
	var all []string
	for _, want := range alternatives {
		if p, ok := in.x.Lookup(want.Name); ok {
			text := fmt.Sprintf("%s is %s", p.Name, p.Version)
			if p.From != "" {
				text += ", of " + strings.TrimPrefix(p.origin(), "the ")
			}
			all = append(all, text)
		}
	}
	switch {
	case len(all) > 0:
		return " (" + strings.Join(all, "; ") + ")"
	case in.x.joined():
		return ", nor any other archive"
	}
	return ""
}

// isMet reports whether a chosen package is, or provides, what is asked for.
func (in *installation) isMet(want dependency.Possibility) bool {
	if i, ok := in.chosen[want.Name]; ok && in.x.is(i, want) {
		return true
	}
	return slices.ContainsFunc(in.x.providers(want.Name), func(by provision) bool {
		i, ok := in.chosen[in.x.packages[by.pkg].Name]
		return ok && i == by.pkg && in.x.provides(by, want)
	})
}

// choose picks the first candidate that does not conflict with what was chosen, else the first candidate.
func (in *installation) choose(alternatives []dependency.Possibility) (int, bool) {
	var candidates []int
	for _, want := range alternatives {
		for _, i := range in.x.byName[want.Name] {
			if in.x.is(i, want) {
				candidates = append(candidates, i)
			}
		}
		for _, by := range in.x.providers(want.Name) {
			if in.x.provides(by, want) {
				candidates = append(candidates, by.pkg)
			}
		}
	}
	// A second version of a package cannot be there beside the first.
	candidates = slices.DeleteFunc(candidates, func(i int) bool {
		_, there := in.chosen[in.x.packages[i].Name]
		return there
	})
	for _, i := range candidates {
		if in.fits(i) {
			return i, true
		}
	}
	if len(candidates) == 0 {
		return 0, false
	}
	return candidates[0], true
}

// is reports whether the package i itself is what is asked for.
func (x *Index) is(i int, want dependency.Possibility) bool {
	return x.packages[i].Name == want.Name && x.meets(want) && inRange(x.packages[i].Version, want.Version)
}

// provides reports whether a provision is what is asked for: a version, only with one. Debian policy 7.5.
func (x *Index) provides(by provision, want dependency.Possibility) bool {
	return x.meets(want) && (want.Version == nil || by.version != "" && inRange(by.version, want.Version))
}

// meets reads the qualifier of "python3:any": of one architecture, the package itself meets all but a foreign one.
func (x *Index) meets(want dependency.Possibility) bool {
	return want.Arch == nil || slices.Contains([]string{"any", "native", x.arch.Name}, want.Arch.CPU)
}

func inRange(have string, want *dependency.VersionRelation) bool {
	if want == nil {
		return true
	}
	v, err := version.Parse(have)
	return err == nil && want.SatisfiedBy(v)
}

// checkConflicts reports every pair that dpkg would refuse.
func (in *installation) checkConflicts() error {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(in.chosen)) {
		i := in.chosen[name]
		if other := in.excludedBy(i); other != "" {
			all = append(all, fmt.Sprintf("%s excludes %s", name, other))
		}
	}
	if len(all) > 0 {
		return fmt.Errorf("install packages: not all of these can be there: %s", strings.Join(all, "; "))
	}
	return nil
}

// fits reports whether package i and those that were chosen exclude each other in neither direction.
func (in *installation) fits(i int) bool {
	if in.excludedBy(i) != "" {
		return false
	}
	for _, j := range in.chosen {
		for _, bad := range in.excluded(j) {
			if in.x.isOrProvides(i, bad) {
				return false
			}
		}
	}
	return true
}

func (in *installation) excludedBy(i int) string {
	for _, bad := range in.excluded(i) {
		if j, ok := in.chosen[bad.Name]; ok && j != i && in.x.is(j, bad) {
			return bad.Name
		}
		for _, by := range in.x.providers(bad.Name) {
			name := in.x.packages[by.pkg].Name
			if j, ok := in.chosen[name]; ok && j == by.pkg && j != i && in.x.provides(by, bad) {
				return name
			}
		}
	}
	return ""
}

// excluded lists what package i conflicts with or breaks.
func (in *installation) excluded(i int) []dependency.Possibility {
	bad, known := in.bad[i]
	if !known {
		for _, field := range []string{in.x.packages[i].Conflicts, in.x.packages[i].Breaks} {
			bad = append(bad, slices.Concat(alternativesOf(field)...)...)
		}
		in.bad[i] = bad
	}
	return bad
}

func (x *Index) isOrProvides(i int, want dependency.Possibility) bool {
	return x.is(i, want) || slices.ContainsFunc(x.providers(want.Name), func(by provision) bool {
		return by.pkg == i && x.provides(by, want)
	})
}
