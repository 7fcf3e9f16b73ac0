package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/kimg/kimg/internal/deb"
)

// packageField keeps names and versions from a lock harmless in file names and
// in debootstrap's lists (Debian policy 5.6.1 and 5.6.12).
var packageField = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9.+:~-]*$`)

// debootstrap's own directory in the tree, and where apt keeps packages.
const (
	debootstrapDir = "debootstrap/"
	aptArchives    = "var/cache/apt/archives/"
)

// core are the packages that debootstrap's scripts install by name, in an order of theirs.
var core = []string{"base-passwd", "base-files", "dpkg", "libc6", "perl-base", "mawk", "debconf"}

// laying is a tree while it is laid for debootstrap: what dpkg would do with a package that does nothing itself, and
// what debootstrap would have kept of the other packages.
type laying struct {
	*deb.Layout
	required, base, paths, index bytes.Buffer
	watched                      []string            // paths that required packages have triggers for
	deps, preDeps                map[string][]string // of packages of the base, by name
}

// layTree writes the tar of what debootstrap's second stage begins with, the required packages' files, which
// debootstrap unpacks before dpkg does, and its lists of the packages that dpkg is to unpack, with these; and then that
// of the base, which is unpacked over it when the required packages are configured, as debootstrap does it. The second
// one's writer is asked for when the first one's tar is at its end.
//
// Of most packages dpkg has nothing to do for that but to lay files and write them down, and that is done here; it then
// configures these with the others. They are required packages without a preinst, packages of the base without any
// script, and in neither case what has triggers or sets off any but the linker cache's. What comes of it is the same,
// bit for bit.
func layTree(ctx context.Context, w io.Writer, base func() io.Writer, pkgs Packages, spec RootfsSpec) error {
	all := slices.Concat(spec.Required, spec.Base)
	for _, p := range all {
		for _, f := range []string{p.Name, p.Version, p.Arch} {
			if !packageField.MatchString(f) {
				return fmt.Errorf("package %q: %q is not a name, version or architecture", p.Name, f)
			}
		}
	}
	l := &laying{Layout: deb.NewLayout(w, usrLinks(spec), spec.Epoch, nil),
		deps: map[string][]string{}, preDeps: map[string][]string{}}
	l.KeepTimes = true
	for _, d := range []string{aptArchives, "var/lib/apt/lists/"} {
		if err := l.Mkdir(path.Clean(d)); err != nil {
			return err
		}
	}
	required := map[string]bool{}
	for _, p := range spec.Required {
		required[p.Name] = true
	}
	next, stop := deb.UnpackAll(ctx, pkgs, all,
		func(u *deb.Package) bool { return required[u.Field("Package")] || passive(u, "preinst", "postinst") })
	defer stop()
	for i := 0; ; i++ {
		if i == len(spec.Required) {
			if err := l.finishRequired(base); err != nil {
				return err
			}
		}
		u, err := next()
		if errors.Is(err, io.EOF) {
			return l.finishBase(spec)
		}
		if err == nil {
			err = l.lay(u, all[i], i < len(spec.Required))
		}
		if err != nil {
			return err
		}
	}
}

// usrLinks are the directories of the root that debootstrap makes links into /usr.
func usrLinks(spec RootfsSpec) []string {
	if slices.Contains(spec.Suite.Bootstrap.Options, "--no-merged-usr") {
		return nil
	}
	return strings.Fields(archOr(spec.Arch).UsrLinks)
}

// passive reports whether a package has none of the scripts, and no trigger but that of the linker's cache, which is
// made anew after all of it.
func passive(u *deb.Package, scripts ...string) bool {
	if slices.ContainsFunc(scripts, u.Has) || slices.Contains(core, u.Field("Package")) {
		return false
	}
	for verb, name := range triggers(u) {
		if strings.HasPrefix(verb, "interest") || name != "ldconfig" {
			return false
		}
	}
	return true
}

// triggers yields the directives of a package's triggers: deb-triggers(5).
func triggers(u *deb.Package) func(yield func(verb, name string) bool) {
	return func(yield func(verb, name string) bool) {
		for line := range strings.Lines(string(u.File("triggers"))) {
			line, _, _ = strings.Cut(line, "#")
			if f := strings.Fields(line); len(f) == 2 && !yield(f[0], f[1]) {
				return
			}
		}
	}
}

// watches reports whether a required package has a trigger for a path.
func (l *laying) watches(p string) bool {
	for _, w := range l.watched {
		if p == w || strings.HasPrefix(p, w+"/") {
			return true
		}
	}
	return false
}

func (l *laying) lay(u *deb.Package, p Package, required bool) error {
	if !required {
		pre := depNames(u.Field("Pre-Depends"))
		l.preDeps[p.Name], l.deps[p.Name] = pre, append(depNames(u.Field("Depends")), pre...)
	}
	switch {
	case required && passive(u, "preinst"):
		return l.AddExtracted(u)
	case !required && u.Data != nil && l.Fits(u, l.watches):
		return l.Add(u)
	}
	list := &l.base
	if required {
		list = &l.required
		for verb, name := range triggers(u) {
			if strings.HasPrefix(verb, "interest") && path.IsAbs(name) {
				l.watched = append(l.watched, name)
			}
		}
		if err := l.AddFiles(u); err != nil {
			return err
		}
	}
	// apt's spelling of a version with an epoch.
	file := aptArchives + p.Name + "_" + strings.ReplaceAll(p.Version, ":", "%3a") + "_" + p.Arch + ".deb"
	fmt.Fprintln(list, p.Name)
	fmt.Fprintf(&l.paths, "%s /%s\n", p.Name, file)
	fmt.Fprintf(&l.index, "%s\nFilename: %s\n\n", u.Stanza, file)
	return l.File(file, 0o644, u.Plain())
}

// depNames are the packages that a field of dependencies names, of alternatives the first, as debootstrap takes them.
func depNames(field string) (names []string) {
	for d := range strings.SplitSeq(field, ",") {
		if f := strings.FieldsFunc(d, func(r rune) bool { return strings.ContainsRune(" \t\n|(:[", r) }); len(f) > 0 {
			names = append(names, f[0])
		}
	}
	return names
}

// early are the packages that debootstrap installs before the rest of the base: what others pre-depend on, with what
// these depend on.
func (l *laying) early() map[string]bool {
	early := map[string]bool{}
	var add func(names []string)
	add = func(names []string) {
		for _, n := range names {
			if deps, ok := l.deps[n]; ok && !early[n] {
				early[n] = true
				add(deps)
			}
		}
	}
	for _, pre := range l.preDeps {
		add(pre)
	}
	return early
}

// extra is a file that belongs to no package.
type extra struct {
	name string
	data []byte
}

// finishRequired lays what belongs to no package, and goes on with the base's tar.
func (l *laying) finishRequired(base func() io.Writer) error {
	if err := l.files(
		extra{debootstrapDir + "required", l.required.Bytes()},
		extra{debootstrapDir + "required.status", l.Status(func(string) deb.State { return deb.Unpacked })},
		extra{debootstrapDir + "debpaths", l.paths.Bytes()},
		extra{debootstrapDir + "base", nil}, // debootstrap looks at once whether it is there
		extra{deb.InfoDir + "/format", []byte("1\n")},
		// debootstrap would copy the container's, which are not the same in all engines: of resolv.conf postfix takes
		// the machine's search domain.
		extra{"etc/hostname", []byte(Hostname + "\n")}, extra{"etc/resolv.conf", []byte(resolvConf)},
		// No fsync for each file: the tree is a step's, and an interrupted step is
		// thrown away. Normalise drops the file.
		extra{unsafeIO, []byte("force-unsafe-io\n")},
	); err != nil {
		return err
	}
	return l.Next(base)
}

// finishBase lays debootstrap's lists, and ends the tar.
func (l *laying) finishBase(spec RootfsSpec) error {
	early := l.early()
	state := func(name string) deb.State {
		if early[name] {
			return deb.Installed
		}
		return deb.Unpacked
	}
	if err := l.files(
		extra{debootstrapDir + "base.packages", l.base.Bytes()},
		extra{debootstrapDir + "all.debpaths", l.paths.Bytes()},
		extra{debootstrapDir + "base.status", l.Status(state)},
		// dpkg needs an index, with file names, of packages that others pre-depend on.
		extra{"var/lib/apt/lists/kimg_dists_" + spec.Suite.Name + "_main_binary-" + archOr(spec.Arch).Name +
			"_Packages", l.index.Bytes()},
	); err != nil {
		return err
	}
	return errors.Join(l.DateDirs(), l.Close())
}

func (l *laying) files(all ...extra) error {
	for _, f := range all {
		if err := l.File(f.name, 0o644, f.data); err != nil {
			return err
		}
	}
	return nil
}
