package archive

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/fetch"
	"github.com/kimg/kimg/internal/pgp"
	"github.com/kimg/kimg/internal/suite"
)

// LineError is an archive besides the suite's own that cannot be used.
type LineError struct {
	Line Line
	Err  error
	hint string
}

func (e *LineError) Error() string { return fmt.Sprintf("use archive %s: %v", e.Line.Name(), e.Err) }

func (e *LineError) Unwrap() error { return e.Err }

// Hint says what to look at.
func (e *LineError) Hint() string {
	if e.hint != "" {
		return e.hint
	}
	return "check the line of --archive (archives: in kimg.yaml) with the archive's owner, and the network"
}

// More fetches and verifies the release of an archive besides a suite's own, with the client's Keyring, and reads its
// lists. An error is a *LineError.
func (c *Client) More(ctx context.Context, l Line) (*Release, *Index, error) {
	rel, err := c.releaseOf(ctx, l)
	if err != nil {
		return nil, nil, lineError(l, err)
	}
	index, err := c.indexOf(ctx, rel, l)
	if err != nil {
		return nil, nil, lineError(l, err)
	}
	return rel, index, nil
}

// lineError gives an error of an archive its place, and the hint that fits.
func lineError(l Line, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	e := &LineError{Line: l, Err: err}
	var untrusted *UntrustedError
	var status *fetch.StatusError
	switch {
	case errors.As(err, &status) && (status.Code == 401 || status.Code == 403):
		e.hint = "archives that ask for a password are not read: serve a copy, or include its .deb files"
	case errors.Is(err, fetch.ErrAnother):
		e.hint = "its lists and its files do not fit each other: either it is being renewed, and is right again in a " +
			"while, or its owner has to mend it"
	case errors.As(err, &untrusted) && untrusted.fault == page:
		e.hint = "open " + l.URL + " in a browser: a page to log in at, or a proxy, answers in the archive's place"
	case errors.As(err, &untrusted) && untrusted.fault == others:
		e.hint = "write the suite that it is, or its codename, into the line"
	case errors.As(err, &untrusted) && untrusted.fault == stale:
		e.hint = "its owner has to renew it; this machine's clock must be right"
	case errors.As(err, &untrusted) && untrusted.fault == early:
		e.hint = "this machine's clock must be right"
	case errors.As(err, &untrusted):
		e.hint = "ask the archive's owner for its key, compare the fingerprint, and name its file with signed-by=; " +
			"this machine's clock must be right"
	case errors.Is(err, errNoInRelease):
		e.hint = "look at " + l.URL + "/dists/ for the suites that it has"
		if l.flat() {
			e.hint = "a directory with a slash at its end is an archive without dists/: " +
				"most have a suite and components"
		}
	}
	return e
}

var errNoInRelease = errors.New("it has no such suite")

func (c *Client) releaseOf(ctx context.Context, l Line) (*Release, error) {
	at := l.URL + "/" + l.dir()
	data, err := c.inRelease(ctx, at+"InRelease")
	if errors.Is(err, fs.ErrNotExist) {
		if _, also := c.inRelease(ctx, at+"Release"); also == nil {
			return nil, errors.New("it has a Release there and no InRelease, which is signed in itself: " +
				"kimg reads that alone")
		}
		return nil, fmt.Errorf("%w: %w", errNoInRelease, err)
	}
	if err != nil {
		return nil, err
	}
	const what = "its InRelease"
	rel, err := verified(data, c.Keyring, what, c.now())
	if err != nil {
		return nil, err
	}
	if named := rel.codename + rel.suite; named != "" && !l.flat() && l.Suite != rel.codename && l.Suite != rel.suite {
		return nil, &UntrustedError{what, fmt.Sprintf("it is signed, but it is that of %q (codename %q)",
			rel.suite, rel.codename), others}
	}
	rel.base, rel.dir = l.URL, l.dir()
	if err := c.checkFresh(&rel.Release, what, "the InRelease of "+l.Name()); err != nil {
		return nil, err
	}
	return &rel.Release, c.keep(data, rel.InRelease)
}

// indexOf reads the lists of all of a line's components.
func (c *Client) indexOf(ctx context.Context, rel *Release, l Line) (*Index, error) {
	var all []Package
	add := func(what string, dirs ...string) error {
		found := false
		for _, dir := range dirs {
			packages, err := c.packages(ctx, rel, dir)
			if errors.Is(err, errNotListed) {
				continue
			}
			if err != nil {
				return fmt.Errorf("read packages%s: %w", what, err)
			}
			found, all = true, append(all, packages...)
		}
		switch {
		case found:
			return nil
		case l.flat():
			return errNotListed
		}
		return rel.lacks(strings.TrimPrefix(what, " of "), c.Arch)
	}
	if l.flat() {
		if err := add("", ""); err != nil {
			return nil, err
		}
	}
	for _, component := range l.Components {
		dirs := []string{component + "/binary-" + c.Arch.Name + "/"}
		if rel.all {
			dirs = append(dirs, component+"/binary-all/")
		}
		if err := add(" of "+component, dirs...); err != nil {
			return nil, err
		}
	}
	x := &Index{arch: c.Arch, late: rel.late}
	for _, p := range all {
		if p.From = l.Name(); p.Arch == c.Arch.Name || p.Arch == "all" {
			x.packages = append(x.packages, p)
		} else {
			x.foreign = append(x.foreign, p)
		}
	}
	x.order()
	return x, nil
}

// binaryList is the name of a list in an InRelease; debian-installer's are not for systems.
var binaryList = regexp.MustCompile(`^(.+)/binary-([a-z0-9-]+)/Packages(\.xz|\.gz)?$`)

// lists are the architectures that an InRelease has lists of, by component.
func (r *Release) lists() map[string][]string {
	all := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(r.files)) {
		m := binaryList.FindStringSubmatch(name)
		if m != nil && !strings.HasSuffix(m[1], "/debian-installer") && !slices.Contains(all[m[1]], m[2]) {
			all[m[1]] = append(all[m[1]], m[2])
		}
	}
	return all
}

// ComponentError is a component that an archive has not.
type ComponentError struct {
	Component string
	there     []string
}

func (e *ComponentError) Error() string {
	return fmt.Sprintf("it has no component %q: it has %s", e.Component, strings.Join(e.there, ", "))
}

// lacks says what there is where a list is not.
func (r *Release) lacks(component string, a arch.Arch) error {
	lists := r.lists()
	arches, ok := lists[component]
	switch {
	case len(lists) == 0:
		return errNotListed
	case !ok:
		return &ComponentError{component, slices.Sorted(maps.Keys(lists))}
	case slices.Contains(arches, a.Name):
		return errNotListed
	}
	return fmt.Errorf("its component %s has no packages of %s: it has those of %s", component, a.Name,
		strings.Join(arches, ", "))
}

// Elsewhere finds names that no package has in the components of a suite that were not read, as far as these can be
// had.
func (c *Client) Elsewhere(ctx context.Context, rel *Release, x *Index, names []string) map[string]string {
	found := map[string]string{}
	for _, component := range slices.Sorted(maps.Keys(rel.lists())) {
		if slices.Contains(x.components, component) {
			continue
		}
		other, err := c.Index(ctx, rel, []string{component})
		if err != nil {
			continue // what was asked for is not there either way
		}
		for _, name := range names {
			if _, ok := other.Lookup(name); ok && found[name] == "" {
				found[name] = component
			}
		}
	}
	return found
}

// SortComponents puts components into the order in which a lock has them, main first. Those that a family's suites
// are read from anyway are none.
func SortComponents(family *suite.Family, list []string) []string {
	rank := func(name string) int {
		if name == "main" {
			return 0
		}
		return 1
	}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b string) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	if list = slices.Compact(list); slices.Equal(list, family.Components) {
		return nil
	}
	return list
}

// componentName is of a suite's own component.
var componentName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)

// CheckComponents checks the components that a user wants a suite's packages from; none are the family's.
func CheckComponents(list []string) error {
	for _, c := range list {
		if !componentName.MatchString(c) {
			return fmt.Errorf("%q is no component: want names apart by commas, such as main,contrib", c)
		}
	}
	if len(list) > 0 && !slices.Contains(list, "main") {
		return fmt.Errorf("%s: want main among them, for it has what every root filesystem needs",
			strings.Join(list, ","))
	}
	return nil
}

// File is a .deb file of the user's own.
type File struct {
	Package
	Path string // as the user calls it
}

// Join is the index of a suite's own packages with those of other archives, in their order, and of files of the
// user's own. Of packages of one name that counts which apt would choose: the newest, wherever it is from; of one
// version the suite's, then that of the archive that is named first; and one of an archive that says of itself that
// it is NotAutomatic, as backports do, only where no other has the name. A file counts before all, for its user named
// it, and is refused where that is not the newest.
func Join(own *Index, files []File, more ...*Index) (*Index, error) {
	if len(files)+len(more) == 0 {
		return own, nil
	}
	x := &Index{arch: own.arch, components: own.components, own: own, standing: map[string]int{Local: -1}}
	x.packages = slices.Clone(own.packages)
	for _, m := range more {
		if m.late && len(m.packages) > 0 {
			x.standing[m.packages[0].From] = 1
		}
		x.packages = append(x.packages, m.packages...)
		x.foreign = append(x.foreign, m.foreign...)
	}
	named := map[string]string{}
	for _, f := range files {
		if f.Arch != "all" && f.Arch != x.arch.Name {
			return nil, &FileError{f.Path,
				fmt.Errorf("it is of %s, and the root filesystem of %s", f.Arch, x.arch.Name)}
		}
		if other := named[f.Name]; other != "" {
			return nil, &FileError{f.Path,
				fmt.Errorf("it is the package %s, as %s is: leave one of them out", f.Name, other)}
		}
		named[f.Name] = f.Path
		x.packages = append(x.packages, f.Package)
	}
	x.order()
	for _, f := range files {
		if same := x.byName[f.Name]; len(same) > 1 {
			if p := x.packages[same[1]]; compareVersions(f.Version, p.Version) < 0 {
				return nil, &FileError{f.Path, fmt.Errorf("it is %s %s, and %s has the newer %s: the newest is "+
					"installed, as apt does by itself; give the file a higher version, or leave it out",
					f.Name, f.Version, p.origin(), p.Version)}
			}
		}
	}
	return x, nil
}

// joined reports whether there are other archives than the suite's, or files, in the index.
func (x *Index) joined() bool { return x.standing != nil }

// VersionError is a version of a package that was asked for, and that there is not.
type VersionError struct {
	Name, Version string
	There         []string // "the suite has 6.13+ds-1"
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("include %s=%s: there is no such version: %s", e.Name, e.Version, strings.Join(e.There, ", "))
}

// Hint says what there is to choose from.
func (e *VersionError) Hint() string {
	return "name one of these, or none for the newest; --archive names another archive to look in"
}

// CutVersion cuts a package to be included apart from its version: "strace=6.13+ds-1".
func CutVersion(include string) (name, version string, pinned bool) { return strings.Cut(include, "=") }

// pinned is the index where each package that is named with a version ("strace=6.13+ds-1") has no other, and the
// names alone. A *VersionError says that it has not that one.
func (x *Index) pinned(include []string) (_ *Index, names []string, _ error) {
	y := x
	for _, p := range include {
		name, exact, pin := CutVersion(p)
		names = append(names, name)
		if !pin || len(x.byName[name]) == 0 { // what there is not is found later
			continue
		}
		if y == x {
			y = &Index{arch: x.arch, packages: x.packages, byName: maps.Clone(x.byName), components: x.components,
				own: cmp.Or(x.own, x), standing: x.standing, late: x.late, foreign: x.foreign}
		}
		var that []int
		e := &VersionError{Name: name, Version: exact}
		for _, i := range y.byName[name] {
			q := x.packages[i]
			if q.Version == exact {
				that = append(that, i)
			}
			e.There = append(e.There, q.origin()+" has "+q.Version)
			if q.From == Local { // which was named, too
				break
			}
		}
		if len(that) == 0 {
			return nil, nil, e
		}
		y.byName[name] = that
	}
	return y, names, nil
}

// origin is where a package is from, for messages.
func (p Package) origin() string {
	switch p.From {
	case "":
		return "the suite"
	case Local:
		return "a file of yours"
	}
	return "the archive " + p.From
}

// FileError is a .deb file of the user's own that cannot be installed.
type FileError struct {
	File string
	Err  error
}

func (e *FileError) Error() string { return fmt.Sprintf("include %s: %v", e.File, e.Err) }

func (e *FileError) Unwrap() error { return e.Err }

// Hint says what to do about a file that is damaged.
func (e *FileError) Hint() string {
	if errors.Is(e.Err, io.ErrUnexpectedEOF) {
		return "the file is cut off: download it again"
	}
	return ""
}

// Keys reads the keys that may sign an archive: public ones, armored or binary.
func Keys(text []byte) (*pgp.Keyring, error) {
	k, err := pgp.ReadKeyring(bytes.NewReader(text))
	if err == nil && k.Private() || bytes.Contains(text, []byte("-----BEGIN PGP PRIVATE KEY BLOCK-----")) {
		return nil, errors.New("it has a private key in it, which would be in the lock: want what gpg --export writes")
	}
	if err != nil {
		return nil, fmt.Errorf("%w (want public keys, armored or binary, as gpg --export writes them)", err)
	}
	return k, nil
}
