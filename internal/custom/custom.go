// Package custom is what a user wants otherwise in a root filesystem than its packages have it: files laid over the
// tree, accounts, units, settings and scripts. It is data, as a lock pins it, and the checks of it; package image
// does what it says.
package custom

import (
	"fmt"
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

	RootPassword string `yaml:"root-password,omitempty"` // a hash, or None; empty: none, too
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
	return units.DigestOf([]byte(b.String()))
}

// Packages are those that must be installed for it.
func (c *Custom) Packages() []string {
	if c.Timezone != "" && c.Timezone != "UTC" {
		return []string{"tzdata"}
	}
	return nil
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
	if c.Hostname != "" || c.Timezone != "" || c.RootPassword != "" {
		all = append(all, "settings")
	}
	return strings.Join(all, ", ")
}
