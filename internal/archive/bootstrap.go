package archive

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kimg/kimg/internal/editdist"
	"github.com/kimg/kimg/internal/suite"
	"pault.ag/go/debian/dependency"
)

// Variant is a set of packages that debootstrap starts from.
type Variant string

// The variants, by debootstrap's meaning.
const (
	Minbase  Variant = "minbase"  // required packages and apt
	Standard Variant = "standard" // required and important packages: debootstrap's default
)

// ClosureSpec says which bootstrap is wanted.
type ClosureSpec struct {
	Suite   suite.Suite
	Variant Variant
	Include []string // debootstrap --include; "strace=6.13+ds-1" is that version of it
}

// Bootstrap is what debootstrap installs, in its order, by name: Required is
// unpacked and configured first. No package is in both.
type Bootstrap struct{ Required, Base []Package }

// Closure computes the packages that debootstrap --print-debs names for an http mirror (for an https one it adds
// ca-certificates). It follows debootstrap 1.0.141, faults and all: only Depends and Pre-Depends count, of
// alternatives only the first, versions never, and a name that no package has is passed over. What dpkg insists on
// beyond that, for what was included and for what others than the suite brought, is added as Install does.
//
// Which packages every root filesystem has is the suite's affair: another archive may have newer ones of them, but
// its own priorities, and what it calls essential, count for nothing.
func (x *Index) Closure(spec ClosureSpec) (Bootstrap, error) {
	x, include, err := x.pinned(spec.Include)
	if err != nil {
		return Bootstrap{}, err
	}
	spec.Include = include
	own := x
	if x.own != nil {
		own = x.own
	}
	required := own.withPriority("required")
	var base []string
	switch spec.Variant {
	case Minbase:
		base = []string{"apt"}
	case Standard:
		base = own.withPriority("important")
	default:
		return Bootstrap{}, fmt.Errorf("unknown variant %q: want %s or %s", spec.Variant, Minbase, Standard)
	}
	exclude := spec.Suite.Bootstrap.Exclude
	required = append(required, spec.Suite.Bootstrap.Also...)
	requiredSet := x.resolve(required, exclude)
	baseSet := x.resolve(slices.Concat(base, spec.Include), exclude)
	for name := range requiredSet {
		delete(baseSet, name)
	}
	var b Bootstrap
	if b.Required, err = x.sorted(requiredSet); err != nil {
		return Bootstrap{}, err
	}
	if b.Base, err = x.sorted(baseSet); err != nil || len(spec.Include) == 0 && own == x {
		return b, err
	}
	// debootstrap's own choice is not judged: it has worked.
	plain := own.installed(own.resolve(required, exclude), own.resolve(base, exclude))
	more, err := x.installed(requiredSet, baseSet).complete(plain)
	if err != nil {
		return Bootstrap{}, err
	}
	for _, name := range more {
		baseSet[name] = true
	}
	b.Base, err = x.sorted(baseSet)
	return b, err
}

// complete adds what packages need that are not in the plain set, and returns the names of what it added. What dpkg
// would refuse minutes later is an error: a dependency that nobody has, and packages that exclude each other.
func (in *installation) complete(plain *installation) ([]string, error) {
	for _, name := range slices.Sorted(maps.Keys(in.chosen)) {
		i := in.chosen[name]
		if was, ok := plain.chosen[name]; ok && was == i {
			continue
		}
		if err := in.x.checkTwice(i); err != nil {
			return nil, err
		}
		in.todo = append(in.todo, i)
	}
	if err := in.settle(); err != nil {
		return nil, err
	}
	var all, names []string
	for _, name := range slices.Sorted(maps.Keys(in.chosen)) {
		other := in.excludedBy(in.chosen[name])
		if other == "" {
			continue
		}
		if slices.Contains(all, fmt.Sprintf("%s excludes %s", other, name)) { // the same from its other side
			continue
		}
		if i, ok := plain.chosen[name]; !ok || plain.excludedBy(i) != other {
			all = append(all, fmt.Sprintf("%s excludes %s", name, other))
			names = append(names, name, other)
		}
	}
	if len(all) > 0 {
		return nil, &ClashError{pairs: all, names: names, in: in}
	}
	return slices.Sorted(maps.Keys(in.fresh)), nil
}

// checkTwice refuses a package that its archive lists twice, with two contents: nothing says which is meant.
func (x *Index) checkTwice(i int) error {
	p := x.packages[i]
	for _, j := range x.byName[p.Name] {
		if q := x.packages[j]; q.From == p.From && q.Version == p.Version && q.SHA256 != p.SHA256 {
			return fmt.Errorf("install %s: %s lists its version %s twice, with two contents (%s, %s)",
				p.Name, p.origin(), p.Version, p.SHA256.Short(), q.SHA256.Short())
		}
	}
	return nil
}

// installed are packages that are there, by their newest versions.
func (x *Index) installed(sets ...map[string]bool) *installation {
	in := &installation{x: x, chosen: map[string]int{}, fresh: map[string]bool{},
		bad: map[int][]dependency.Possibility{}}
	for _, set := range sets {
		for name := range set {
			if same := x.byName[name]; len(same) > 0 {
				in.chosen[name] = same[0]
			}
		}
	}
	return in
}

// ClashError says that packages cannot be installed beside each other.
type ClashError struct {
	pairs, names []string
	in           *installation

	Asked []string // names that the user included and that bring one of the names
	by    []string // who brings the names: "initscripts is there for sysvinit-core"
	init  string   // a name that is there because guests start with it
}

func (e *ClashError) Error() string {
	text := "not all of these packages can be there: " + strings.Join(e.pairs, "; ")
	if len(e.by) > 0 {
		text += " (" + strings.Join(e.by, "; ") + ")"
	}
	return text
}

// Hint says what is left to do.
func (e *ClashError) Hint() string {
	who := "one of them"
	switch {
	case len(e.Asked) > 1:
		return "leave one of them out of --include: " + strings.Join(e.Asked, ", ")
	case len(e.Asked) == 1 && e.init != "":
		return fmt.Sprintf("leave %s out of --include: kimg's guests start systemd, and no other init; "+
			"kimg run --init sh starts a guest without it", e.Asked[0])
	case len(e.Asked) == 1:
		who = e.Asked[0]
	}
	return fmt.Sprintf("leave %s out of --include; what the suite's own set has can be fewer with --variant minbase",
		who)
}

// Found adds who brings what: the user's own includes, or what every guest has.
func (e *ClashError) Found(own, guest []string) {
	slices.Sort(e.names)
	for _, name := range slices.Compact(e.names) {
		if slices.Contains(guest, name) {
			e.init = name
			e.by = append(e.by, name+" is in every guest")
			continue
		}
		for _, asked := range own {
			asked, _, _ = CutVersion(asked)
			if !e.in.brings(asked, name) {
				continue
			}
			if !slices.Contains(e.Asked, asked) {
				e.Asked = append(e.Asked, asked)
			}
			if asked != name {
				e.by = append(e.by, name+" is there for "+asked)
			}
			break
		}
	}
}

// brings reports whether a package is, or needs, directly or not, another one of those that were chosen.
func (in *installation) brings(by, name string) bool {
	seen := map[string]bool{by: true}
	for todo := []string{by}; len(todo) > 0; todo = todo[1:] {
		if todo[0] == name {
			return true
		}
		i, ok := in.chosen[todo[0]]
		if !ok {
			continue
		}
		for _, field := range []string{in.x.packages[i].PreDepends, in.x.packages[i].Depends} {
			for _, want := range slices.Concat(alternativesOf(field)...) {
				if _, there := in.chosen[want.Name]; there && !seen[want.Name] {
					seen[want.Name] = true
					todo = append(todo, want.Name)
				}
			}
		}
	}
	return false
}

// withPriority is debootstrap's get_debs Priority: of stanzas of a package in a row, the last one counts.
func (x *Index) withPriority(priority string) []string {
	var names []string
	for i, p := range x.packages {
		overruled := i+1 < len(x.packages) && x.packages[i+1].Name == p.Name
		if p.Priority == priority && !overruled {
			names = append(names, p.Name)
		}
	}
	return names
}

// resolve is debootstrap's resolve_deps. Names of no package stay only where they are in names.
func (x *Index) resolve(names, exclude []string) map[string]bool {
	all := make(map[string]bool)
	for _, name := range names {
		all[name] = true
	}
	for todo := slices.Collect(maps.Keys(all)); len(todo) > 0; {
		name := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for n, i := range x.byName[name] {
			if n > 0 && x.joined() { // debootstrap takes those of all versions for one; here they are others'
				break
			}
			for _, dep := range firstAlternatives(x.packages[i]) {
				if len(x.byName[dep]) > 0 && !all[dep] && !slices.Contains(exclude, dep) {
					all[dep] = true
					todo = append(todo, dep)
				}
			}
		}
	}
	return all
}

// firstAlternatives is debootstrap's GETDEPS: the names of what p depends on.
func firstAlternatives(p Package) []string {
	var names []string
	for _, relation := range []string{p.PreDepends, p.Depends} {
		for dep := range strings.SplitSeq(relation, ",") {
			dep = strings.TrimSpace(dep)
			if i := strings.IndexAny(dep, "|(: "); i >= 0 {
				dep = dep[:i]
			}
			if dep != "" {
				names = append(names, dep)
			}
		}
	}
	return names
}

// sorted looks the names up, in the order of their bytes (debootstrap sorts with LANG=C). Names that no package has
// are an *UnknownError.
func (x *Index) sorted(names map[string]bool) ([]Package, error) {
	var found []Package
	missing := &UnknownError{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if p, ok := x.Lookup(name); ok {
			found = append(found, p)
		} else {
			missing.Names, missing.says = append(missing.Names, name), append(missing.says, x.describeMissing(name))
		}
	}
	if len(missing.Names) > 0 {
		return nil, missing
	}
	return found, nil
}

// UnknownError are names that no package has.
type UnknownError struct {
	Names []string
	says  []string // of each

	components []string // that would have to be read
}

func (e *UnknownError) Error() string { return "find packages: " + strings.Join(e.says, "; ") }

// Hint says what reads them.
func (e *UnknownError) Hint() string {
	if len(e.components) == 0 {
		return ""
	}
	return "--components " + strings.Join(e.components, ",") + " (components: in kimg.yaml) reads it as well"
}

// Found adds where names are that the components read do not have.
func (e *UnknownError) Found(x *Index, elsewhere map[string]string) {
	for i, name := range e.Names {
		component, ok := elsewhere[name]
		if !ok {
			continue
		}
		e.says[i] = fmt.Sprintf("%q is in the suite's component %s, and only %s is read", name, component,
			strings.Join(x.components, ", "))
		if len(e.components) == 0 {
			e.components = slices.Clone(x.components)
		}
		if !slices.Contains(e.components, component) {
			e.components = append(e.components, component)
		}
	}
}

// near are the packages that a name was probably meant for: the same with a version in it, or with a slip.
func (x *Index) near(name string) []string {
	var around []string
	for n := range x.byName {
		if rest, ok := strings.CutPrefix(n, strings.TrimRight(name, "0123456789.-")); ok && len(name) > 2 &&
			strings.Trim(rest, "0123456789.-") == "" {
			around = append(around, n)
		}
	}
	slices.SortFunc(around, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) })
	near := around[:min(2, len(around))]
	if best := editdist.Nearest(name, maps.Keys(x.byName), min(2, len(name)/3)); best != "" &&
		!slices.Contains(near, best) {
		near = append(near, best)
	}
	return near
}

// describeMissing says what the user can do about a name that no package has.
func (x *Index) describeMissing(name string) string {
	var by []string
	for _, p := range x.providers(name) {
		by = append(by, x.packages[p.pkg].Name)
	}
	if len(by) == 0 {
		missing := fmt.Sprintf("the suite has no package %q", name)
		if len(x.components) > 0 {
			missing += " in " + strings.Join(x.components, ", ")
		}
		if x.joined() {
			missing += ", and no other archive has it"
		}
		if n := x.foreignTo(name); n != "" {
			missing += " (" + n + ")"
		} else if near := x.near(name); len(near) > 0 {
			missing += " (did you mean " + strings.Join(near, " or ") + "?)"
		}
		return missing
	}
	slices.Sort(by)
	by = slices.Compact(by)
	if len(by) > 5 {
		by = append(by[:5], "...")
	}
	return fmt.Sprintf("%q is not a package by itself, name one that provides it: %s", name, strings.Join(by, ", "))
}

// foreignTo says that other architectures have a package of that name.
func (x *Index) foreignTo(name string) string {
	for _, p := range x.foreign {
		if p.Name == name {
			return fmt.Sprintf("%s has it for %s, and not for %s", p.origin(), p.Arch, x.arch.Name)
		}
	}
	return ""
}
