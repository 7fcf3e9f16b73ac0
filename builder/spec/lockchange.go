package spec

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"pault.ag/go/debian/version"
)

// Change is how one lock differs from another, for a user to review.
type Change struct {
	File    string       `json:"file"`
	Written bool         `json:"written"`
	Parts   []PartChange `json:"parts"` // those that moved
}

// Parts are the parts of a lock that can be moved by name.
var Parts = []string{"kernel", "suite", "toolchain"}

// PartChange is how one part of a lock moved.
type PartChange struct {
	Part     string `json:"part"`     // of Parts
	Name     string `json:"name"`     // which one, for users
	Facts    []Move `json:"facts"`    // what is pinned besides packages
	Packages []Move `json:"packages"` // by name
	Total    int    `json:"total"`    // packages that the part has now
}

// Move is one pin that moved.
type Move struct {
	Name  string `json:"name"`
	From  string `json:"from,omitempty"`  // empty: it was not there
	To    string `json:"to,omitempty"`    // empty: it is gone
	Older bool   `json:"older,omitempty"` // of a package: the version went back
}

// Diff tells how lock b differs from lock a. again are the actions that a has in this kimg.
func Diff(a, b *Lock, again ActionsLock) []PartChange {
	out := []PartChange{}
	add := func(p PartChange) {
		if len(p.Facts)+len(p.Packages) > 0 {
			p.Facts, p.Packages = append([]Move{}, p.Facts...), append([]Move{}, p.Packages...) // not null in JSON
			out = append(out, p)
		}
	}
	kernel := PartChange{Part: "kernel", Name: b.Kernel.Name(),
		Facts: diffFacts(append(a.Kernel.facts(), archFact(a)), append(b.Kernel.facts(), archFact(b)))}
	if a.Kernel.Package != nil && b.Kernel.Package != nil {
		kernel.Packages = diffPackages([]Package{*a.Kernel.Package}, []Package{*b.Kernel.Package})
		kernel.Name, kernel.Total = b.Kernel.Package.Name, 1
	}
	kernel.Facts = append(kernel.Facts, moved(a.Actions.Kernel, again.Kernel)...)
	add(kernel)
	add(PartChange{
		Part: "suite", Name: fmt.Sprintf("%s %s", b.Rootfs.Suite, b.Rootfs.Variant),
		Facts: slices.Concat(diffFacts(a.Rootfs.facts(a.Image), b.Rootfs.facts(b.Image)),
			diffFacts(customFacts(a.Custom), customFacts(b.Custom)), moved(a.Actions.Image, again.Image)),
		Packages: diffPackages(a.Rootfs.Packages(), b.Rootfs.Packages()), Total: len(b.Rootfs.Packages()),
	})
	for _, t := range [][2]ToolchainLock{{a.Toolchain, b.Toolchain}, {a.Imaging, b.Imaging}} {
		add(PartChange{
			Part: "toolchain", Name: string(t[1].Target), Facts: diffFacts(t[0].facts(), t[1].facts()),
			Packages: diffPackages(t[0].packages(), t[1].packages()), Total: len(t[1].packages()),
		})
	}
	return out
}

// moved tells that this kimg makes something in another way from the same pins.
func moved[T ~string](was, now T) []Move {
	if was == now {
		return nil
	}
	return []Move{{Name: "action", From: brief(string(was)), To: brief(string(now))}}
}

func archFact(l *Lock) fact { return fact{"arch", l.Arch.Name} }

// fact is something that a lock pins, by the name that users know it by.
type fact struct{ name, value string }

func (l KernelLock) facts() []fact {
	f := []fact{{"version", l.Called()}}
	if l.Archive != nil {
		f = append(f, l.Archive.facts()...)
	}
	if l.Package == nil { // whose own digest is shown with it
		f = append(f, fact{"sha256", brief(string(l.SHA256))})
	}
	var fixes, patches []string
	for _, x := range l.Fixes {
		fixes = append(fixes, x.Name)
	}
	for _, p := range l.Patches {
		patches = append(patches, p.Path+short(p.SHA256))
	}
	f = append(f, fact{"fixes", strings.Join(fixes, " ")}, fact{"patches", strings.Join(patches, " ")})
	if d := l.Download; d != nil {
		signed := strings.Join(slices.Concat(d.SignedBy, d.TarSignedBy), " ")
		f = append(f, fact{"url", d.URL}, fact{"signed by", cmp.Or(signed, "nobody")})
	}
	for _, fix := range l.Fixes {
		f = append(f, fact{"fix " + fix.Name, fix.SHA256.Short()})
	}
	return append(f, fact{"build time", day(time.Unix(l.Epoch, 0))})
}

func (l ArchiveLock) facts() []fact {
	return []fact{
		{"archive of", day(l.Date)}, {"InRelease", brief(string(l.InRelease))},
		{"signed by", strings.Join(l.SignedBy, " ")},
	}
}

func (r RootfsLock) facts(image ImageLock) []fact {
	all := append(r.Archive.facts(), fact{"newest file", day(time.Unix(r.Epoch, 0))},
		fact{"form", image.Form.String()}, fact{"UUID", image.UUID.String()})
	return append(all, r.otherFacts()...)
}

func customFacts(c Custom) []fact {
	if !c.Any() {
		return nil
	}
	return []fact{{"laid over", c.Summary() + short(c.Digest())}}
}

func (t ToolchainLock) facts() []fact {
	f := []fact{
		{"target", string(t.Target)}, {"compiler", t.Compiler}, {"why", t.Why},
		{"origin", t.Origin}, {"image", t.Image},
	}
	for _, l := range t.Engines { // whose packages are too many to be named again
		f = append(f, fact{"for engines of " + l.Engine, l.Digest().Short()})
	}
	if t.Lock == nil {
		return f
	}
	return append(f, fact{"archive of", day(t.Lock.Date)}, fact{"InRelease", brief(string(t.Lock.InRelease))})
}

func (t ToolchainLock) packages() []Package {
	if t.Lock == nil {
		return nil
	}
	return slices.Concat(t.Lock.Base, t.Lock.Packages)
}

// day is a moment for users, to the second: archives may change many times a day.
func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func brief(digest string) string { return digest[:min(12, len(digest))] }

func short(d Digest) string {
	if d == "" {
		return ""
	}
	return " (" + d.Short() + ")"
}

func diffFacts(a, b []fact) (moves []Move) {
	was := map[string]string{}
	for _, f := range a {
		was[f.name] = f.value
	}
	for _, f := range b {
		if was[f.name] != f.value {
			moves = append(moves, Move{Name: f.name, From: was[f.name], To: f.value})
		}
		delete(was, f.name)
	}
	for _, f := range a {
		if v, gone := was[f.name]; gone && v != "" {
			moves = append(moves, Move{Name: f.name, From: v})
		}
	}
	return moves
}

// diffPackages tells which packages moved, by name; of one version with other content by the digests.
func diffPackages(a, b []Package) (moves []Move) {
	was, now := byName(a), byName(b)
	for name, p := range was {
		q, stays := now[name]
		switch {
		case !stays:
			moves = append(moves, Move{Name: name, From: p.Version})
		case p.Version != q.Version:
			moves = append(moves, Move{Name: name, From: p.Version, To: q.Version, Older: older(p.Version, q.Version)})
		case p.SHA256 != q.SHA256:
			from, to := p.Version+" "+p.SHA256.Short(), q.Version+" "+q.SHA256.Short()
			moves = append(moves, Move{Name: name, From: from, To: to})
		}
	}
	for name, q := range now {
		if _, was := was[name]; !was {
			moves = append(moves, Move{Name: name, To: q.Version})
		}
	}
	slices.SortFunc(moves, func(x, y Move) int { return cmp.Compare(x.Name, y.Name) })
	return moves
}

func byName(list []Package) map[string]Package {
	m := make(map[string]Package, len(list))
	for _, p := range list {
		m[p.Name] = p
	}
	return m
}

// older says whether a version went back, which an archive does not do by itself.
func older(from, to string) bool {
	a, errA := version.Parse(from)
	b, errB := version.Parse(to)
	return errA == nil && errB == nil && version.Compare(b, a) < 0
}
