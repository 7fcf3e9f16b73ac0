package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/kimg/kimg/internal/custom"
	"github.com/kimg/kimg/internal/editdist"
)

// unitDirs are where systemd looks for units (systemd.unit(5)), but for what is made at boot.
var unitDirs = []string{"etc/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system",
	"lib/systemd/system"}

// UnitError is a unit that a tree does not have, or that cannot be enabled.
type UnitError struct {
	Verb, Unit string
	Why        string
	hint       string
}

func (e *UnitError) Error() string { return fmt.Sprintf("units: %s: %s %s", e.Verb, e.Unit, e.Why) }

// Hint says what helps.
func (e *UnitError) Hint() string { return e.hint }

// units are the commands that do to units what is wanted: systemctl's own, as a unit says itself what enabling it
// means. What systemctl would pass over is an error.
func (c *customiser) units() (do []command, err error) {
	verb := "" // of one command, which may have several units
	for _, u := range c.want.Units.All() {
		if err := c.checkUnit(u); err != nil {
			return nil, err
		}
		if u.Verb != verb {
			verb = u.Verb
			do = append(do, command{what: "systemctl " + verb, line: "systemctl " + verb + " --"})
		}
		last := &do[len(do)-1]
		last.what += " " + u.Name
		last.line += " '" + u.Name + "'" // which has no quotes: CheckUnit
	}
	return do, nil
}

func (c *customiser) checkUnit(u custom.Unit) error {
	const none = "include: the package that has it (openssh-server has ssh.service); or put one of yours into " +
		"/etc/systemd/system, by files: or overlay:"
	names := c.unitFiles(u.Name)
	if len(names) == 0 {
		why := "is not in the tree"
		if near := editdist.Nearest(u.Name, maps.Keys(c.allUnits()), 3); near != "" {
			why += ": did you mean " + near + "?"
		}
		return &UnitError{u.Verb, u.Name, why, none}
	}
	if u.Verb == "enable" && slices.ContainsFunc(masked, func(m struct{ unit, why string }) bool {
		return m.unit == u.Name
	}) {
		c.unmask(u.Name) // by kimg itself: who enables it wants it
		names = c.unitFiles(u.Name)
	}
	if u.Verb == "mask" {
		return nil
	}
	for _, name := range names {
		n := c.at(name)
		if n == nil || n.typ != tar.TypeReg { // masked, which systemctl says itself
			return nil
		}
		text, err := c.content(n)
		if err != nil {
			return err
		}
		if installSection.Match(text) {
			return nil
		}
	}
	return &UnitError{u.Verb, u.Name, "has no [Install] section, and is started by what needs it",
		"mask it, to have it never start; or enable what starts it"}
}

// installSection is where a unit says what enabling it means.
var installSection = regexp.MustCompile(`(?m)^\[Install\]`)

// unitFiles are the files of the tree that a unit consists of: its own, or its template's, and what adds to that.
func (c *customiser) unitFiles(name string) (files []string) {
	spellings := []string{name}
	if before, after, ok := strings.Cut(name, "@"); ok {
		spellings = append(spellings, before+"@"+path.Ext(after))
	}
	for _, dir := range unitDirs {
		for _, s := range spellings {
			if real, err := c.resolve(path.Join(dir, s)); err == nil && c.nodes[real] != nil {
				files = append(files, real)
			}
		}
	}
	if len(files) == 0 {
		return nil
	}
	for _, dir := range unitDirs {
		for _, s := range spellings {
			if real, err := c.resolve(path.Join(dir, s+".d", "x")); err == nil {
				for other := range c.nodes {
					if path.Dir(other) == path.Dir(real) && path.Ext(other) == ".conf" {
						files = append(files, other)
					}
				}
			}
		}
	}
	return files
}

// allUnits are the units that the tree has files of.
func (c *customiser) allUnits() map[string]bool {
	all := map[string]bool{}
	for _, dir := range unitDirs {
		real, err := c.resolve(path.Join(dir, "x"))
		if err != nil {
			continue
		}
		for name, n := range c.nodes {
			if path.Dir(name) == path.Dir(real) && n.typ != tar.TypeDir && custom.CheckUnit(path.Base(name)) == nil {
				all[path.Base(name)] = true
			}
		}
	}
	return all
}

// unmask takes a mask of kimg's own away.
func (c *customiser) unmask(unit string) {
	name := "etc/systemd/system/" + unit
	if n := c.nodes[name]; n != nil && n.typ == tar.TypeSymlink && n.link == "/dev/null" {
		c.remove(name)
	}
}

// localesSupported lists the locales that the package locales can make, with their character sets.
const localesSupported = "usr/share/i18n/SUPPORTED"

// LocaleError is a locale that a suite does not have.
type LocaleError struct{ Locale, Near string }

func (e *LocaleError) Error() string {
	if e.Near != "" {
		return fmt.Sprintf("locale: the suite has no %q: did you mean %s?", e.Locale, e.Near)
	}
	return fmt.Sprintf("locale: the suite has no %q", e.Locale)
}

// Hint says where names are.
func (e *LocaleError) Hint() string {
	return "/usr/share/i18n/SUPPORTED of a Debian machine with the package locales has those that there are; " +
		"C.UTF-8 is everywhere"
}

// locale sets the guest's locale, and has it made with what else runs in the tree.
func (c *customiser) locale() error {
	want := c.want.Locale
	if want == "" {
		return nil
	}
	// PAM reads the one, systemd the other, or, before trixie, the one as well; since then it makes the link at boot.
	link := &node{name: "etc/default/locale", typ: tar.TypeSymlink, mode: 0o777, link: "../locale.conf"}
	if err := errors.Join(c.text("etc/locale.conf", "LANG="+want+"\n"), c.lay(link)); err != nil {
		return err
	}
	if !c.want.MakesLocale() {
		return nil
	}
	supported, err := c.read(localesSupported)
	if err != nil {
		return err
	}
	plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "-", "")) }
	near := ""
	var known []string
	for line := range strings.Lines(supported) {
		f := strings.Fields(line)
		if len(f) != 2 {
			continue
		}
		if f[0] == want {
			gen, err := c.read("etc/locale.gen")
			if err != nil {
				return err
			}
			if f[1] != "UTF-8" {
				c.warn(fmt.Sprintf("locale: %s is of %s: %s.UTF-8 is the one of UTF-8, where there is one", want, f[1],
					strings.SplitN(want, ".", 2)[0]))
			}
			return c.text("etc/locale.gen", gen+strings.Join(f, " ")+"\n")
		}
		if known = append(known, f[0]); plain(f[0]) == plain(want) || f[0] == want+".UTF-8" {
			near = f[0]
		}
	}
	if near == "" {
		near = editdist.Nearest(want, slices.Values(known), 2)
	}
	return &LocaleError{want, near}
}
