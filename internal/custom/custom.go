// Package custom is what a user wants otherwise in a root filesystem than its packages have it: files laid over the
// tree, accounts, units, settings and scripts. It is data, as a lock pins it, and the checks of it; package image
// does what it says.
package custom

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kimg/kimg/internal/units"
	"github.com/kimg/kimg/internal/yamlfile"
)

// Custom is all that is wanted. What a lock pins of it is whole, but for overlays, which are in the store.
type Custom struct {
	Overlays []Overlay `yaml:"overlay,omitempty"`
	Files    []File    `yaml:"files,omitempty"`
	Hostname string    `yaml:"hostname,omitempty"`
	Timezone string    `yaml:"timezone,omitempty"`

	RootPassword string `yaml:"root-password,omitempty"` // a hash, None, or locked; empty: none, too

	Locale         string   `yaml:"locale,omitempty"`
	Users          []User   `yaml:"users,omitempty"`
	AuthorizedKeys []Keys   `yaml:"authorized-keys,omitempty"`
	Run            []Script `yaml:"run,omitempty"`
	Units          Units    `yaml:"units,omitempty"`
}

// Overlay is a tree that is laid over, packed as a tar.
type Overlay struct {
	Path   string       `yaml:"path"` // without its directory, which is the user's own business
	SHA256 units.Digest `yaml:"sha256"`
	From   string       `yaml:"-"` // the directory or tar that it is packed from; empty: it must be in the store
}

// File is a regular file that is laid over.
type File struct {
	Path  string        `yaml:"path"`
	Mode  Mode          `yaml:"mode"`
	Owner string        `yaml:"owner,omitempty"` // name[:group], or numbers; empty: root
	Text  yamlfile.Text `yaml:"text"`
}

// Any reports whether anything is wanted.
func (c *Custom) Any() bool { return c.Digest() != (&Custom{}).Digest() }

// Digest is of all that makes a difference to the tree.
func (c *Custom) Digest() units.Digest {
	var b strings.Builder
	for _, o := range c.Overlays {
		fmt.Fprintf(&b, "overlay %s\n", o.SHA256)
	}
	for _, f := range c.Files {
		fmt.Fprintf(&b, "file %q %o %q %q\n", f.Path, f.Mode, f.Owner, f.Text)
	}
	fmt.Fprintf(&b, "hostname %q timezone %q\n", c.Hostname, c.Timezone)
	if c.RootPassword != "" {
		fmt.Fprintf(&b, "root-password %q\n", c.RootPassword)
	}
	if c.Locale != "" {
		fmt.Fprintf(&b, "locale %q\n", c.Locale)
	}
	for _, u := range c.Users {
		fmt.Fprintf(&b, "user %q %d %q %q %q %q\n", u.Name, u.UID, u.Groups, u.Shell, u.Home, u.Password)
	}
	for _, k := range c.AuthorizedKeys {
		fmt.Fprintf(&b, "authorized-keys %q %q\n", k.User, k.Keys)
	}
	for _, s := range c.Run {
		fmt.Fprintf(&b, "run %q %q\n", s.Name, s.Text)
	}
	for _, u := range c.Units.All() {
		fmt.Fprintf(&b, "unit %s %q\n", u.Verb, u.Name)
	}
	return units.DigestOf([]byte(b.String()))
}

// sshds are packages by which a guest listens to ssh and reads authorized keys.
var sshds = []string{"openssh-server", "dropbear", "tinysshd"}

// Packages are those that must be installed for it, besides what is included anyway.
func (c *Custom) Packages(included []string) (all []string) {
	if c.Timezone != "" && c.Timezone != "UTC" {
		all = append(all, "tzdata")
	}
	if c.MakesLocale() {
		all = append(all, "locales")
	}
	if len(c.AuthorizedKeys) > 0 && !slices.ContainsFunc(included, func(p string) bool {
		name, _, _ := strings.Cut(p, "=")
		return slices.Contains(sshds, name)
	}) {
		all = append(all, sshds[0])
	}
	return all
}

// Summary says in a few words what is wanted, for the title of a step.
func (c *Custom) Summary() string {
	var all []string
	add := func(n int, one, many string) {
		switch {
		case n == 1:
			all = append(all, one)
		case n > 1:
			all = append(all, fmt.Sprintf("%d %s", n, many))
		}
	}
	add(len(c.Overlays), "an overlay", "overlays")
	add(len(c.Files), "a file", "files")
	if c.Hostname != "" || c.Timezone != "" || c.RootPassword != "" || c.Locale != "" {
		all = append(all, "settings")
	}
	add(len(c.Users), "a user", "users")
	if len(c.AuthorizedKeys) > 0 {
		all = append(all, "ssh keys")
	}
	add(len(c.Run), "a script", "scripts")
	add(len(c.Units.All()), "a unit", "units")
	return strings.Join(all, ", ")
}
