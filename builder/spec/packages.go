package spec

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/kimg/kimg/builder/attest"
	"github.com/kimg/kimg/internal/archive"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
)

// ArchiveLine is one of apt's one-line entries.
type ArchiveLine = archive.Line

// OtherArchive is an archive besides the suite's own that packages may come from.
type OtherArchive struct {
	URL        string   `yaml:"url"`
	Suite      string   `yaml:"suite"`
	Components []string `yaml:"components,omitempty,flow"`
	Key        FileLock `yaml:"key"` // the keys that may sign it, whole
}

// OtherLock pins one state of it.
type OtherLock struct {
	OtherArchive `yaml:",inline"`
	Origin       string    `yaml:"origin,omitempty"` // who made it, as it says
	Date         time.Time `yaml:"date"`             // the InRelease's own
	InRelease    Digest    `yaml:"inrelease"`
	SignedBy     []string  `yaml:"signed-by,flow"` // fingerprints of the keys
}

// Deb is a .deb file of the user's own.
type Deb struct {
	Name   string // for users
	SHA256 Digest // empty: it was not read yet
	From   string // the file; empty: it must be in the store
}

// Shown is the file as the user called it, where it is known.
func (d Deb) Shown() string { return cmp.Or(d.From, d.Name) }

// Line is the archive as apt's sources name it.
func (a OtherArchive) Line() ArchiveLine {
	return ArchiveLine{URL: a.URL, Suite: a.Suite, Components: a.Components, Key: a.Key.Path}
}

func (a OtherArchive) same(b OtherArchive) bool {
	return a.Line().Name() == b.Line().Name() && slices.Equal(a.Components, b.Components) &&
		a.Key.SHA256 == b.Key.SHA256
}

// isDeb tells a file that is to be included from the name of a package.
func isDeb(include string) bool {
	return strings.Contains(include, "/") || strings.HasSuffix(include, ".deb")
}

// maxKey bounds a file of keys, in bytes: it is in the lock. A distribution's has less than 100 KB.
const maxKey = 256 << 10

// readArchive reads a line of --archive, and its keys.
func readArchive(text string, a Arch) (o OtherArchive, _ error) {
	if archive.IsAptFile(text) {
		if b, err := reading.Small(inHome(text), maxKey); err == nil {
			return o, fmt.Errorf("%s is a file of apt's: give what it says as lines: %s", text,
				archive.LinesOf(string(b)))
		}
	}
	l, err := archive.ParseLine(text)
	if err == nil {
		err = l.ForArch(a)
	}
	if err != nil {
		return o, err
	}
	key, err := readKeys(l)
	if err != nil {
		return o, err
	}
	return OtherArchive{URL: l.URL, Suite: l.Suite, Components: l.Components, Key: key}, nil
}

// KeyFileError is a file of keys that is not there.
type KeyFileError struct {
	Archive string
	Err     error
}

func (e *KeyFileError) Error() string {
	return fmt.Sprintf("read the key that signs %s: %v", e.Archive, e.Err)
}

func (e *KeyFileError) Unwrap() error { return e.Err }

// Hint says where it is to be had.
func (e *KeyFileError) Hint() string {
	return "the archive's page says where its key is: download it, and name the file with signed-by="
}

// readKeys reads what signed-by= names: one file, as it is, or several, of which the keys alone are taken.
func readKeys(l ArchiveLine) (key FileLock, _ error) {
	names := strings.Split(l.Key, ",")
	var bases []string
	var all bytes.Buffer
	for _, name := range names {
		name = inHome(name)
		b, err := reading.Small(name, maxKey)
		if err != nil {
			return key, &KeyFileError{l.Name(), err}
		}
		keys, err := archive.Keys(b)
		if err == nil && len(names) > 1 {
			err = keys.Write(&all)
		} else {
			all.Write(b)
		}
		if err != nil {
			return key, fmt.Errorf("read the key %s that signs %s: %w", name, l.Name(), err)
		}
		bases = append(bases, filepath.Base(name))
	}
	return FileLock{Path: strings.Join(bases, ","), SHA256: units.DigestOf(all.Bytes()), Text: all.String()}, nil
}

func readArchives(lines []string, a Arch, wrong func(string, any, error) error) (all []OtherArchive, _ error) {
	for _, line := range lines {
		o, err := readArchive(line, a)
		named := func(b OtherArchive) bool { return b.Line().Name() == o.Line().Name() }
		if err == nil && slices.ContainsFunc(all, named) {
			err = fmt.Errorf("%s is named twice: put all of its components into one line", o.Line().Name())
		}
		if err != nil {
			return nil, wrong("--archive", line, err)
		}
		all = append(all, o)
	}
	return all, nil
}

// check is of an archive in a lock, which may be anybody's.
func (a OtherArchive) check() error {
	if _, err := archive.ParseLine(a.Line().String()); err != nil {
		return fmt.Errorf("archive %s: %w", a.Line().Name(), err)
	}
	if a.Key.SHA256 != units.DigestOf([]byte(a.Key.Text)) {
		return fmt.Errorf("archive %s: the key %s has not the digest that the lock says", a.Line().Name(), a.Key.Path)
	}
	_, err := archive.Keys([]byte(a.Key.Text))
	return err
}

// aptSuite is how apt has a package of another suite than the usual one.
var aptSuite = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+/[a-z][a-z0-9-]*$`)

// checkDebs is of the files that are to be included, before any is read.
func (s Spec) checkDebs() error {
	for _, p := range s.Include {
		if !isDeb(p) {
			continue
		}
		st, err := os.Stat(p)
		switch {
		case errors.Is(err, fs.ErrNotExist) && !strings.Contains(p, "/"):
			err = fmt.Errorf("there is no file %s here; a package of an archive is included by its name alone", p)
		case strings.Contains(p, "://"):
			err = fmt.Errorf("%s is an address: download it, and name the file", p)
		case errors.Is(err, fs.ErrNotExist) && aptSuite.MatchString(p):
			err = fmt.Errorf("there is no file %s; packages are of --suite, and of --archive: PKG=VERSION names a "+
				"version", p)
		case errors.Is(err, fs.ErrNotExist):
			err = fmt.Errorf("there is no file %s", p)
		case err == nil && st.IsDir():
			err = fmt.Errorf("%s is a directory: name the .deb files in it", p)
		case err == nil && !st.Mode().IsRegular():
			err = fmt.Errorf("%s is not a plain file", p)
		}
		if err != nil {
			return s.Wrong("--include", p, err)
		}
	}
	return nil
}

// Debs are the files among the packages to include.
func (s Spec) Debs() (all []Deb) {
	for _, p := range s.Include {
		if isDeb(p) {
			all = append(all, Deb{Name: filepath.Base(p), From: p})
		}
	}
	return all
}

// debs are the lock's packages that were files of the user's own.
func (r RootfsLock) debs() (all []Deb) {
	for _, p := range r.Packages() {
		if p.From == archive.Local {
			all = append(all, Deb{Name: path.Base(p.Filename), SHA256: p.SHA256})
		}
	}
	return all
}

// archives are the archives besides the suite's own, as they were asked for.
func (r RootfsLock) archives() (all []OtherArchive) {
	for _, o := range r.Archives {
		all = append(all, o.OtherArchive)
	}
	return all
}

// From is the archive, besides the suite's own, that a package's From names.
func (r RootfsLock) From(name string) (OtherLock, bool) {
	i := slices.IndexFunc(r.Archives, func(o OtherLock) bool { return o.Line().Name() == name })
	if i < 0 {
		return OtherLock{}, false
	}
	return r.Archives[i], true
}

// checkFrom refuses a lock with packages from where it does not say.
func (r RootfsLock) checkFrom() error {
	for _, p := range r.Packages() {
		if _, ok := r.From(p.From); !ok && p.From != "" && p.From != archive.Local {
			return fmt.Errorf("its package %s is from %s, of which it says nothing", p.Name, p.From)
		}
	}
	return nil
}

// SameDebs compares files by what is in them, in any order.
func SameDebs(a, b []Deb) bool {
	sums := func(list []Deb) (all []Digest) {
		for _, d := range list {
			all = append(all, d.SHA256)
		}
		slices.Sort(all)
		return slices.Compact(all)
	}
	return slices.Equal(sums(a), sums(b))
}

func debNames(list []Deb) string {
	var all []string
	for _, d := range list {
		all = append(all, d.Name)
	}
	return strings.Join(all, " ")
}

func archiveNames(list []OtherArchive) string {
	var all []string
	for _, a := range list {
		all = append(all, strings.Join(append([]string{a.Line().Name()}, a.Components...), " ")+short(a.Key.SHA256))
	}
	return strings.Join(all, ", ")
}

// otherFacts are what a lock pins of its other archives, for users.
func (r RootfsLock) otherFacts() (all []fact) {
	if len(r.Components) > 0 {
		all = append(all, fact{"components", strings.Join(r.Components, " ")})
	}
	for _, o := range r.Archives {
		name := o.Line().Name()
		all = append(all,
			fact{name, strings.Join(o.Components, " ")}, fact{"archive of " + name, day(o.Date)},
			fact{"InRelease of " + name, brief(string(o.InRelease))},
			fact{"key of " + name, o.Key.SHA256.Short()},
			fact{name + " signed by", strings.Join(o.SignedBy, " ")})
	}
	return all
}

// rootfsPackage is a package of the root filesystem for other tools: of whose archive it is, where that is known.
func (r RootfsLock) rootfsPackage(p Package) attest.Material {
	m := packageMaterial(p, r.Archive.Suite, attest.RootFS)
	switch o, ok := r.From(p.From); {
	case ok:
		m.Supplier = o.Origin
		m.URI = attest.OtherDebURL(o.URL, o.Origin, o.Suite, p.Name, p.Version, p.Arch)
	case p.From == archive.Local:
		m.Supplier, m.URI = "", ""
	}
	return m
}

// material is the archive's index.
func (o OtherLock) material() attest.Material {
	return attest.Material{
		Kind: attest.Index, Name: o.Line().Name(), URI: o.Line().InRelease(), Digest: o.InRelease, Date: o.Date,
		SignedBy: o.SignedBy, For: attest.RootFS,
	}
}

// components are those of the suite's archive as a lock has them.
func (s Spec) components() []string {
	of, err := suite.Parse(s.Suite)
	if err != nil {
		return s.Components
	}
	return archive.SortComponents(of.Family, s.Components)
}
