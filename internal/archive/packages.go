package archive

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/kimg/kimg/internal/deb822"
	"github.com/kimg/kimg/internal/units"
)

// maxLine bounds one line of a package list; the longest of today, a Depends field, has some 20 KB.
const maxLine = 1 << 20

// maxPackage bounds a package, in bytes; the largest of Debian has less than two GB.
const maxPackage = 8 << 30

// fields are those that kimg reads, in the order in which reduce writes them.
var fields = []string{"Package", "Version", "Architecture", "Source", "Filename", "Size", "Installed-Size", "SHA256",
	"Priority", "Essential", "Pre-Depends", "Depends", "Provides", "Conflicts", "Breaks"}

// kept says which lines reduce keeps, by their name.
var kept = func() map[string]bool {
	m := make(map[string]bool)
	for _, f := range fields {
		m[f] = true
	}
	return m
}()

// reduce copies a package list without the lines that kimg does not read, three quarters of it.
func reduce(w io.Writer, r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	out := bufio.NewWriterSize(w, 64<<10)
	keep := false
	for lines.Scan() {
		line := lines.Bytes()
		switch {
		case len(line) == 0:
			keep = true
		case line[0] == ' ' || line[0] == '\t': // it continues the field before it
		default:
			i := bytes.IndexByte(line, ':')
			keep = i >= 0 && kept[string(line[:i])]
		}
		if keep {
			out.Write(line) // Flush gives its error
			out.WriteByte('\n')
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("it has a line of more than %d bytes", maxLine)
	} else if err != nil {
		return err
	}
	return out.Flush()
}

// parsePackages reads a package list. The packages' strings share text's memory: that is most of why sixty thousand
// take a tenth of a second. https://wiki.debian.org/DebianRepository/Format#A.22Packages.22_Indices
func parsePackages(text string) ([]Package, error) {
	all := make([]Package, 0, strings.Count(text, "\n\n")+1)
	for stanza := range deb822.Stanzas(text) {
		p, err := parsePackage(stanza)
		if err != nil {
			return nil, fmt.Errorf("read package %q of the list: %w", p.Name, err)
		}
		all = append(all, p)
	}
	return all, nil
}

// parsePackage reads one stanza. With an error it returns what it has read so far.
func parsePackage(stanza string) (p Package, _ error) {
	for field, err := range deb822.Fields(stanza) {
		if err == nil {
			err = p.set(field.Name, field.Value)
		}
		if err != nil {
			return p, err
		}
	}
	return p, p.check()
}

func (p *Package) set(name, value string) (err error) {
	switch name {
	case "Package":
		p.Name = value
	case "Version":
		p.Version = value
	case "Architecture":
		p.Arch = value
	case "Source":
		p.Source = value
	case "Filename":
		p.Filename = strings.TrimPrefix(value, "./") // as dpkg-scanpackages writes it
	case "Size":
		if p.Size, err = strconv.ParseInt(value, 10, 64); err != nil {
			return fmt.Errorf("its Size %q is no number", value)
		}
	case "Installed-Size":
		if p.InstalledSize, err = strconv.ParseInt(value, 10, 64); err != nil {
			return fmt.Errorf("its Installed-Size %q is no number", value)
		}
	case "SHA256":
		p.SHA256, err = units.ParseDigest(value)
	case "Priority":
		p.Priority = value
	case "Essential":
		p.Essential = value == "yes"
	case "Pre-Depends":
		p.PreDepends = value
	case "Depends":
		p.Depends = value
	case "Provides":
		p.Provides = value
	case "Conflicts":
		p.Conflicts = value
	case "Breaks":
		p.Breaks = value
	}
	return err
}

// FromControl is the package of a .deb file of the user's own, by its control file, its size and its digest.
func FromControl(stanza string, size int64, d units.Digest) (p Package, _ error) {
	values, err := deb822.Map(stanza)
	if err != nil {
		return p, err
	}
	for _, name := range fields {
		if name == "Size" || name == "SHA256" || name == "Filename" { // of a list
			continue
		}
		if v, ok := values[strings.ToLower(name)]; ok {
			if err := p.set(name, v); err != nil {
				return p, err
			}
		}
	}
	p.Size, p.SHA256, p.From = size, d, Local
	p.Filename = p.Name + "_" + p.Version + "_" + p.Arch + ".deb" // whatever the user calls it
	return p, p.check()
}

// check refuses a stanza that lacks what kimg needs, or whose names could lead out of a directory or a list.
func (p *Package) check() error {
	switch {
	case !isName(p.Name, "+-."):
		return errors.New("it has no name, or a bad one")
	case !isName(p.Version, "+-.:~"):
		return fmt.Errorf("its Version %q is none", p.Version)
	case !isName(p.Arch, "-"):
		return fmt.Errorf("its Architecture %q is none", p.Arch)
	case p.Filename == "" || strings.HasPrefix(p.Filename, "/") || strings.Contains("/"+p.Filename+"/", "/../") ||
		strings.ContainsAny(p.Filename, " \t\n?#%\\"):
		return fmt.Errorf("its Filename %q is not one below the archive", p.Filename)
	case p.Size <= 0:
		return errors.New("it has no Size")
	case p.Size > maxPackage:
		return fmt.Errorf("its Size of %d bytes is more than the %d that a package may have", p.Size, int64(maxPackage))
	case p.SHA256 == "":
		return errors.New("it has no SHA256")
	}
	return nil
}

// isName holds s against letters, digits and extra, with one of the first two first. Debian policy, 5.6.1, 5.6.12.
func isName(s, extra string) bool {
	for i, c := range []byte(s) {
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !alnum && (i == 0 || strings.IndexByte(extra, c) < 0) {
			return false
		}
	}
	return s != ""
}

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
	From                string // the archive, as Line.Name has it, or Local; "": the suite's own
}

// Local is where a package is from that is a file of the user's own.
const Local = "local"

// Locked names one package file exactly, for a lock.
type Locked struct {
	Name     string       `json:"name" yaml:"name"`
	Version  string       `json:"version" yaml:"version"`
	Arch     string       `json:"arch" yaml:"arch"`
	Filename string       `json:"filename" yaml:"filename"`
	Size     int64        `json:"size" yaml:"size"`
	SHA256   units.Digest `json:"sha256" yaml:"sha256"`
	From     string       `json:"from,omitempty" yaml:"from,omitempty"` // as Package.From
}

// Locked is what a lock keeps of the package.
func (p Package) Locked() Locked {
	return Locked{Name: p.Name, Version: p.Version, Arch: p.Arch, Filename: p.Filename, Size: p.Size, SHA256: p.SHA256,
		From: p.From}
}
