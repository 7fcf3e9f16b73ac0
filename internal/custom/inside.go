package custom

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/kimg/kimg/internal/yamlfile"
)

// Script is run by root in the tree.
type Script struct {
	Name string        `yaml:"name"` // of its file, which it sees as its own
	Text yamlfile.Text `yaml:"text"`
}

// Interpreter is the program that runs a script, as its first line has it.
func (s Script) Interpreter() string {
	first, _, _ := strings.Cut(string(s.Text), "\n")
	words := strings.Fields(strings.TrimPrefix(first, "#!"))
	if !strings.HasPrefix(first, "#!") || len(words) == 0 {
		return ""
	}
	return words[0]
}

var elfMagic = []byte("\x7fELF")

// CheckScript judges a script by its first line: whether what it calls is there, the tree says.
func CheckScript(s Script) error {
	if err := CheckName(s.Name); err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(s.Text), "\n")
	switch {
	case s.Name == "" || strings.Contains(s.Name, "/"):
		return fmt.Errorf("%q is no file's name", s.Name)
	case bytes.HasPrefix([]byte(s.Text), elfMagic):
		return errors.New("it is a program, not a script: put it into an overlay, and call it from a script")
	case strings.HasPrefix(first, "\ufeff"):
		return errors.New("it begins with a byte order mark, as editors of Windows write it: save it without")
	case s.Interpreter() == "":
		return errors.New("its first line names no interpreter: begin it with #!/bin/sh, or #!/bin/sh -e to have it " +
			"end at the first command that fails")
	case strings.HasSuffix(first, "\r"):
		return errors.New("its lines end in CR LF, as Windows has them, and no shell takes that: " +
			"have them end in LF (dos2unix)")
	case !strings.HasPrefix(s.Interpreter(), "/"):
		return fmt.Errorf("its interpreter %q is no absolute path", s.Interpreter())
	}
	return nil
}

// Units are systemd's, by what is done to them.
type Units struct {
	Enable  []string `yaml:"enable,omitempty,flow"`
	Disable []string `yaml:"disable,omitempty,flow"`
	Mask    []string `yaml:"mask,omitempty,flow"`
}

// Unit is a unit, and a verb of systemctl's.
type Unit struct{ Verb, Name string }

// All are the units in the order in which they are dealt with.
func (u Units) All() (all []Unit) {
	for _, of := range []struct {
		verb  string
		names []string
	}{{"disable", u.Disable}, {"enable", u.Enable}, {"mask", u.Mask}} {
		for _, name := range of.names {
			all = append(all, Unit{of.verb, name})
		}
	}
	return all
}

// unitName is systemd.unit(5)'s.
var unitName = regexp.MustCompile(`^[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]*)?\.` +
	`(service|socket|device|mount|automount|swap|target|path|timer|slice|scope)$`)

// UnitName is the whole name of a unit, as systemctl has it: one without a type is a service.
func UnitName(s string) string {
	if i := strings.LastIndexByte(s, '.'); i >= 0 && unitName.MatchString("x"+s[i:]) {
		return s
	}
	return s + ".service"
}

// CheckUnit judges a unit's whole name.
func CheckUnit(name string) error {
	switch {
	case len(name) > maxName || !unitName.MatchString(name) || strings.HasPrefix(name, "-"):
		return fmt.Errorf("%q is not a unit: want a name such as ssh.service or fstrim.timer", name)
	case strings.HasPrefix(name, "kimg-") || strings.HasPrefix(name, "serial-getty@"):
		return fmt.Errorf("%s is what kimg speaks to the guest by: leave it as it is", name)
	}
	return nil
}

// locale is a locale's name as setlocale(3) takes it: language, territory, character set, variant.
var locale = regexp.MustCompile(`^([a-z]{2,3}(_[A-Z]{2})?|C|POSIX)(\.[A-Za-z0-9-]{1,20})?(@[a-z]{1,20})?$`)

// CheckLocale judges the form of a locale's name. Whether there is one, the tree says.
func CheckLocale(s string) error {
	if !locale.MatchString(s) {
		return fmt.Errorf("%q is not a locale: want a name such as de_DE.UTF-8 or C.UTF-8", s)
	}
	return nil
}

// BuiltinLocales need not be made: libc has them.
var BuiltinLocales = []string{"C", "POSIX", "C.UTF-8"}

// MakesLocale says whether the locale has to be made in the tree.
func (c *Custom) MakesLocale() bool {
	return c.Locale != "" && !slices.Contains(BuiltinLocales, c.Locale)
}

// Inside says whether something of it runs in the tree, in a container.
func (c *Custom) Inside() bool { return len(c.Run) > 0 || c.MakesLocale() || len(c.Units.All()) > 0 }

// MaxInside is the highest number of a user or a group in a container: namespaces of users have 65536 by default, which
// is what subuid(5) gives to each.
const MaxInside = 65535

// checkOwners refuses numbers that what runs in the tree could not keep.
func (c *Custom) checkOwners() error {
	if !c.Inside() {
		return nil
	}
	wrong := func(id int) error {
		return fmt.Errorf("%d is above %d, and containers have no such ids, in which scripts run, units are enabled "+
			"and locales made: choose a smaller number, or do without these", id, MaxInside)
	}
	for _, u := range c.Users {
		if u.UID > MaxInside {
			return &ItemError{"users", u.Name, fmt.Errorf("%s: uid: %w", u.Name, wrong(u.UID))}
		}
	}
	for _, f := range c.Files {
		for id := range strings.SplitSeq(f.Owner, ":") {
			if n, err := strconv.Atoi(id); err == nil && n > MaxInside {
				return &ItemError{"files", f.Path, fmt.Errorf("%s: owner: %w", f.Path, wrong(n))}
			}
		}
	}
	return nil
}

// vitalUnits are what kimg's agent and console are started by.
var vitalUnits = []string{"basic.target", "dbus.service", "dbus.socket", "default.target", "getty.target",
	"local-fs.target", "multi-user.target", "sysinit.target"}

func (c *Custom) checkInside() error {
	if err := c.checkOwners(); err != nil {
		return err
	}
	for _, s := range c.Run {
		if err := CheckScript(s); err != nil {
			return fmt.Errorf("run: %s: %w", s.Name, err)
		}
	}
	seen := map[string]string{}
	for _, u := range c.Units.All() {
		err := CheckUnit(u.Name)
		if err == nil && u.Verb == "mask" && slices.Contains(vitalUnits, u.Name) {
			err = fmt.Errorf("%s is what the guest's console and kimg's agent hang on: leave it as it is", u.Name)
		}
		if other := seen[u.Name]; err == nil && other != "" {
			err = fmt.Errorf("%s is below %s already", u.Name, other)
		}
		if err != nil {
			return &ItemError{"units: " + u.Verb, u.Name, err}
		}
		seen[u.Name] = u.Verb
	}
	return nil
}
