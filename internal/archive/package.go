package archive

import "github.com/kimg/kimg/internal/units"

// Package is one stanza of a package list. Relationship fields are as the archive spells them.
type Package struct {
	Name, Version, Arch string
	Source              string // as spelled: "glibc (2.41-1)"; "": the same as Name
	Filename            string // relative to the archive's base
	Size                int64  // bytes
	InstalledSize       int64  // KiB, as its maintainer's build estimated it; 0: not said
	SHA256              units.Digest
	Priority            string
	Essential           bool
	PreDepends, Depends string
	Provides            string
	Conflicts, Breaks   string
}

// Locked names one package file exactly, for a lock.
type Locked struct {
	Name     string       `json:"name" yaml:"name"`
	Version  string       `json:"version" yaml:"version"`
	Arch     string       `json:"arch" yaml:"arch"`
	Filename string       `json:"filename" yaml:"filename"`
	Size     int64        `json:"size" yaml:"size"`
	SHA256   units.Digest `json:"sha256" yaml:"sha256"`
}

// Locked is what a lock keeps of the package.
func (p Package) Locked() Locked {
	return Locked{Name: p.Name, Version: p.Version, Arch: p.Arch, Filename: p.Filename, Size: p.Size, SHA256: p.SHA256}
}
