package kernel

import (
	"archive/tar"
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
)

// Kind says where a kernel's source comes from.
type Kind string

// The kinds of sources.
const (
	Suite     Kind = "suite"     // the linux-source package of the suite's own archive
	Directory Kind = "directory" // a tree on this machine
	Tarball   Kind = "tarball"   // a file on this machine
	Release   Kind = "release"   // a version of kernel.org's
	URL       Kind = "url"       // a tarball at a URL
)

// Source is a kernel's source as the user named it.
type Source struct {
	Kind    Kind
	Path    string              // Directory, Tarball: absolute
	Dir     string              // Tarball: where in it the kernel is; empty: there is one
	Package string              // Suite: the package, such as linux-source-5.10; "": the highest version there is
	Version units.KernelVersion // Release
	Series  bool                // Release: the newest of Version's, which is 6.12 for 6.12.y
	URL     string              // URL
}

// SourceError is a kernel source that cannot be used.
type SourceError struct {
	Doing  string // what was done with it
	Source string
	Err    error
}

func sourceError(doing, source string, err error) error { return &SourceError{doing, source, err} }

func (e *SourceError) Error() string { return fmt.Sprintf("%s %s: %v", e.Doing, e.Source, e.Err) }

func (e *SourceError) Unwrap() error { return e.Err }

func (e *SourceError) Hint() string {
	var many *manyTrees
	if errors.As(e.Err, &many) {
		return many.hint(e.Source)
	}
	var outside *outsideLink
	if errors.As(e.Err, &outside) {
		return "unpack it yourself and pass the directory"
	}
	if errors.Is(e.Err, errOtherKind) {
		return "give it the name of what it is, or save it anew"
	}
	if errors.Is(e.Err, errNoTree) {
		return "pass a directory or a tarball with a kernel's own Makefile at its top"
	}
	return "download it again and check it against its publisher's checksum (--kernel VERSION does both), " +
		"or unpack it yourself and pass the directory"
}

var packageRE = regexp.MustCompile(`^linux-source-\d+(\.\d+)+$`)

// tarballs are the endings that can be read, with the suffix and the command of the container that undoes it.
var tarballs = []struct{ ending, suffix, command string }{
	{".tar.xz", ".xz", "xz -T0 -dc"}, {".txz", ".xz", "xz -T0 -dc"},
	{".tar.gz", ".gz", "gzip -dc"}, {".tgz", ".gz", "gzip -dc"},
	{".tar.bz2", ".bz2", "bzip2 -dc"}, {".tbz2", ".bz2", "bzip2 -dc"},
	{".tar.zst", ".zst", "zstd -dc"},
	{".tar", "", "cat"},
}

// ParseSource reads what --kernel takes: "" or "suite", "suite:linux-source-5.10", a directory, a tarball, or a
// kernel.org version. Paths are checked, and made absolute: a wrong one is found here and not after a download.
func ParseSource(s string) (Source, error) {
	if s == "" || s == "suite" {
		return Source{Kind: Suite}, nil
	}
	if name, ok := strings.CutPrefix(s, "suite:"); ok {
		if !packageRE.MatchString(name) {
			return Source{}, fmt.Errorf("parse kernel %q: want a source package, such as suite:linux-source-6.1", s)
		}
		return Source{Kind: Suite, Package: name}, nil
	}
	if strings.Contains(s, "://") {
		return parseURL(s)
	}
	// A version wins over a directory of the same name: ./6.12 is the directory.
	if src, ok := release(s); ok {
		return src, nil
	}
	src, err := parsePath(s)
	if errors.Is(err, fs.ErrNotExist) { // git's and kernel.org's names of versions, where nothing is called so
		for _, prefix := range []string{"linux-", "v"} {
			if src, ok := release(strings.TrimPrefix(s, prefix)); ok {
				return src, nil
			}
		}
	}
	return src, err
}

// release reads a version of kernel.org's, or a series of them.
func release(s string) (Source, bool) {
	s, series := strings.CutSuffix(s, ".y")
	version, err := units.ParseKernelVersion(s)
	whole := version.Patch == 0 && version.RC == 0 && strings.Count(s, ".") == 1
	if err != nil || version.Extra != "" || series && !whole {
		return Source{}, false
	}
	return Source{Kind: Release, Version: version, Series: series}, true
}

// inHome replaces ~/ as a shell does: it is in files, and after --kernel=, where no shell did.
func inHome(path string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, rest)
		}
	}
	return path
}

func parseURL(s string) (Source, error) {
	u, err := url.Parse(s)
	if err != nil {
		return Source{}, fmt.Errorf("parse kernel: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return Source{}, fmt.Errorf("parse kernel %q: want an http or https URL of a tarball", s)
	}
	if u.User != nil {
		return Source{}, fmt.Errorf("parse kernel %q: the address has a name or a password in it, which would be in "+
			"the lock and in the provenance: download it, and name the file", u.Redacted())
	}
	if _, _, ok := compression(u.Path); !ok {
		return Source{}, fmt.Errorf("parse kernel %q: not the URL of a tarball, .tar.xz, .tar.gz or .tar.zst; "+
			"clone a repository and pass its directory", s)
	}
	return Source{Kind: URL, URL: s}, nil
}

func parsePath(s string) (Source, error) {
	abs, err := filepath.Abs(inHome(s))
	if err != nil {
		return Source{}, fmt.Errorf("parse kernel %q: %w", s, err)
	}
	fi, err := os.Stat(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if file, dir, ok := cutLast(s, ":"); ok && dir != "" {
			src, err := parsePath(file)
			if err == nil && src.Kind == Tarball {
				src.Dir = path.Clean(dir)
				if safeName(dir) != nil {
					err = fmt.Errorf("parse kernel %q: want the directory as the tarball calls it: %q leads out of it",
						s, dir)
				}
				return src, err
			}
		}
		return Source{}, &noSourceError{s}
	case err != nil:
		return Source{}, fmt.Errorf("look at kernel source: %w", err)
	case fi.IsDir():
		return Source{Kind: Directory, Path: abs}, nil
	case !fi.Mode().IsRegular():
		return Source{}, fmt.Errorf("parse kernel %q: neither a directory nor a plain file", s)
	}
	if _, _, ok := compression(abs); !ok {
		return Source{}, fmt.Errorf("parse kernel %q: not the name of a tarball; "+
			"kimg reads %s", s, endings())
	}
	return Source{Kind: Tarball, Path: abs}, nil
}

// endings are those of a tarball's name, for people.
func endings() string {
	var all []string
	for _, t := range tarballs {
		all = append(all, t.ending)
	}
	return strings.Join(all[:len(all)-1], ", ") + " and " + all[len(all)-1]
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// noSourceError is the answer to what is no source; it is fs.ErrNotExist.
type noSourceError struct{ name string }

func (e *noSourceError) Error() string {
	if strings.ContainsRune(e.name, filepath.Separator) {
		return fmt.Sprintf("parse kernel %q: there is no such file or directory", e.name)
	}
	if _, _, ok := compression(e.name); ok {
		return fmt.Sprintf("parse kernel %q: there is no such file", e.name)
	}
	return fmt.Sprintf("parse kernel %q: neither a file, a directory, a version such as 6.12 or 6.12.y, nor \"suite\"",
		e.name)
}

// moving are the names by which people call what is another kernel tomorrow.
var moving = []string{"next", "linux-next", "mainline", "stable", "lts", "longterm", "latest", "master", "main", "head"}

// unameRE is a version with what distributions put behind it.
var unameRE = regexp.MustCompile(`^v?(\d+\.\d+(?:\.\d+)?)[-+].*[a-z0-9]$`)

// Hint says what may have been meant.
func (e *noSourceError) Hint() string {
	name := strings.ToLower(e.name)
	series, isSeries := strings.CutSuffix(name, ".x")
	switch {
	case packageRE.MatchString(name):
		return "did you mean suite:" + name + "?"
	case slices.Contains(moving, name):
		return "kimg builds what a name means tomorrow as well: name a version, such as 6.12 or 6.12.y, or clone the " +
			"repository and pass its directory"
	case unameRE.MatchString(name):
		return fmt.Sprintf("is it from uname -r? %s is kernel.org's, and suite the distribution's own (with --suite)",
			unameRE.FindStringSubmatch(name)[1])
	case slices.Contains(suite.Names(), name):
		return fmt.Sprintf("%s is a suite, whose own kernel is built by default: --suite %s", name, name)
	case isSeries:
		if src, ok := release(strings.TrimPrefix(series, "linux-") + ".y"); ok {
			return "did you mean " + src.String() + "?"
		}
	}
	if src, err := ParseSource(name); err == nil && name != e.name {
		return "did you mean " + src.String() + "?"
	}
	return ""
}

func (e *noSourceError) Is(target error) bool { return target == fs.ErrNotExist }

// compression is that of a tarball of that name; ok is false where its name is not that of a tarball.
func compression(name string) (suffix, command string, ok bool) {
	for _, t := range tarballs {
		if strings.HasSuffix(name, t.ending) {
			return t.suffix, t.command, true
		}
	}
	return "", "", false
}

// String is the source as ParseSource reads it back.
func (s Source) String() string {
	switch s.Kind {
	case Suite:
		if s.Package != "" {
			return "suite:" + s.Package
		}
		return "suite"
	case Release:
		if s.Series {
			return s.Version.String() + ".y"
		}
		return s.Version.String()
	case URL:
		return s.URL
	case Tarball:
		if s.Dir != "" {
			return s.Path + ":" + s.Dir
		}
	}
	return s.Path
}

// errNoTree is the answer to a directory or a tarball that holds no kernel.
var errNoTree = errors.New("not a kernel tree: no Makefile with VERSION and PATCHLEVEL at its top, " +
	"with Kconfig and Kbuild beside it")

// maxMakefile bounds how much of a Makefile is read, in bytes: 6.12's has 68 KiB.
const maxMakefile = 1 << 20

// ParseMakefile reads the version from the top-level Makefile of a kernel tree: what the kernel will call itself.
func ParseMakefile(r io.Reader) (units.KernelVersion, error) {
	vars := map[string]string{}
	sc := bufio.NewScanner(io.LimitReader(r, maxMakefile))
	sc.Buffer(nil, 64<<10)
	for len(vars) < 4 && sc.Scan() {
		name, value, ok := strings.Cut(sc.Text(), "=")
		name = strings.TrimSpace(name)
		switch name {
		case "VERSION", "PATCHLEVEL", "SUBLEVEL", "EXTRAVERSION":
			if _, seen := vars[name]; ok && !seen {
				vars[name], _, _ = strings.Cut(strings.TrimSpace(value), "#")
			}
		}
	}
	if err := sc.Err(); err != nil {
		return units.KernelVersion{}, fmt.Errorf("read the tree's Makefile: %w", err)
	}
	major, err1 := strconv.ParseUint(strings.TrimSpace(vars["VERSION"]), 10, 8)
	minor, err2 := strconv.ParseUint(strings.TrimSpace(vars["PATCHLEVEL"]), 10, 16)
	if err1 != nil || err2 != nil {
		return units.KernelVersion{}, errNoTree
	}
	sub := cmp.Or(strings.TrimSpace(vars["SUBLEVEL"]), "0")
	extra := strings.TrimSpace(vars["EXTRAVERSION"])
	// What make computes is not known here. The kernel calls itself by it all the same; no choice depends on it.
	if strings.Contains(extra, "$") {
		extra, _, _ = strings.Cut(extra, "$")
		extra = strings.TrimRight(extra, "-.+~_")
	}
	if strings.Contains(sub, "$") {
		sub = "0"
	}
	return units.ParseKernelVersion(fmt.Sprintf("%d.%d.%s%s", major, minor, sub, extra))
}

type treeInTar struct {
	version units.KernelVersion
	dir     string // where the tree is, as the tar spells it, without a slash at its end; empty: at the top
	strip   int    // leading directories before the tree: 1 in linux-6.12/Makefile
	beside  bool   // there is more than the tree: only what is in dir is to be taken
}

// manyTrees says that a tar holds several kernels, or none where one is looked for.
type manyTrees struct {
	dirs []string
	deep bool // they are in directories of directories
}

func (e *manyTrees) Error() string {
	what := "it holds several kernels: "
	if e.deep {
		what = "it has no kernel at its top, and has one deeper in it: "
		if len(e.dirs) > 1 {
			what = "it has no kernel at its top, and has several deeper in it: "
		}
	}
	return what + strings.Join(e.dirs, ", ")
}

// hint says how one of them is chosen.
func (e *manyTrees) hint(file string) string { return "choose one: --kernel " + file + ":" + e.dirs[0] }

// outsideLink says that a tree of a tar cannot be unpacked alone.
type outsideLink struct{ name, link string }

func (e *outsideLink) Error() string {
	return fmt.Sprintf("%s is a hard link to %s, which is not in that directory", e.name, e.link)
}

// topFiles are what the top of a kernel's tree has. Other projects have a Makefile with a VERSION and a PATCHLEVEL.
var topFiles = []string{"Makefile", "Kconfig", "Kbuild"}

// candidate is a directory of a tar that may be a kernel's.
type candidate struct {
	treeInTar
	has     [3]bool // of topFiles
	outside *outsideLink
}

// makefile is what a tar has under a name, for those that are hard links to it.
type makefile struct {
	version units.KernelVersion
	err     error
}

// treeFinder finds kernels' trees in a tar.
type treeFinder struct {
	dir         string // the one that is meant; empty: the only one at the top
	found       map[string]*candidate
	made        map[string]makefile // of all Makefiles so far
	whole, deep []*candidate        // at dir or at the top; in directories of directories
	tops        map[string]bool     // the names at the top
	inDir       bool                // there is something in dir
}

// findTree reads a tar until it meets a kernel's tree: in the order of git archive, in the first eighth of it. dir
// says which is meant (""; the only one), as deep as it may be; all has the rest be searched for others. What is
// wrong with the rest is found when it is unpacked.
func findTree(r io.Reader, dir string, all bool) (treeInTar, error) {
	tr := tar.NewReader(r)
	f := &treeFinder{dir: dir, found: map[string]*candidate{}, made: map[string]makefile{}, tops: map[string]bool{}}
	for all || len(f.whole) == 0 {
		h, err := tr.Next()
		if err == io.EOF || err != nil && len(f.whole) > 0 {
			break
		}
		if err == nil && h.Typeflag != tar.TypeXGlobalHeader { // which has a name, and is no member
			err = f.take(h, tr)
		}
		if err != nil {
			return treeInTar{}, fmt.Errorf("read tarball: %w", truncated(err))
		}
	}
	return f.tree()
}

// take looks at a member of the tar.
func (f *treeFinder) take(h *tar.Header, r io.Reader) error {
	if err := safeName(h.Name); err != nil {
		if len(f.whole) > 0 {
			err = nil // for who unpacks it
		}
		return err
	}
	name, file := path.Clean(h.Name), h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeLink
	if file || h.Typeflag == tar.TypeDir && strings.Contains(name, "/") {
		top, _, _ := strings.Cut(name, "/")
		f.tops[top] = true
	}
	at, i := path.Dir(name), slices.Index(topFiles, path.Base(name))
	f.inDir = f.inDir || name == f.dir || strings.HasPrefix(name, f.dir+"/")
	if !file || i < 0 {
		return nil
	}
	var m makefile
	switch {
	case i > 0:
	case h.Typeflag == tar.TypeLink:
		m = f.made[path.Clean(h.Linkname)]
	default:
		m.version, m.err = ParseMakefile(r)
	}
	if i == 0 {
		f.made[name] = m
	}
	c := f.found[at]
	if c == nil {
		c = &candidate{}
		f.found[at] = c
	}
	switch {
	case c.has[i] || i == 0 && (m.version == units.KernelVersion{} || errors.Is(m.err, errNoTree)):
		return nil
	case m.err != nil:
		return m.err
	case i == 0:
		// tar counts components as they are spelled: ./linux-6.12/Makefile has two.
		spelt := strings.TrimLeft(h.Name, "/")
		c.version = m.version
		c.dir, c.strip = strings.TrimSuffix(spelt[:len(spelt)-len("Makefile")], "/"), strings.Count(spelt, "/")
	}
	link := path.Clean(h.Linkname)
	if c.outside == nil && h.Typeflag == tar.TypeLink && at != "." && !strings.HasPrefix(link, at+"/") {
		c.outside = &outsideLink{name, link}
	}
	c.has[i] = true
	switch {
	case c.has != [3]bool{true, true, true}:
	case at == f.dir, f.dir == "" && !strings.Contains(at, "/"):
		f.whole = append(f.whole, c)
	case f.dir == "" && len(f.whole) == 0:
		f.deep = append(f.deep, c)
	}
	return nil
}

// tree is the one that was found.
func (f *treeFinder) tree() (treeInTar, error) {
	dirs := func(list []*candidate) (all []string) {
		for _, c := range list {
			all = append(all, path.Clean(c.dir))
		}
		return all
	}
	switch {
	case len(f.whole) > 1:
		return treeInTar{}, &manyTrees{dirs: dirs(f.whole)}
	case len(f.whole) == 0 && len(f.deep) > 0:
		return treeInTar{}, &manyTrees{dirs(f.deep), true}
	case f.dir != "" && !f.inDir:
		return treeInTar{}, fmt.Errorf("it has nothing in %s: %w", f.dir, errNoTree)
	case len(f.whole) == 0:
		return treeInTar{}, errNoTree
	}
	in := f.whole[0].treeInTar
	in.beside = path.Clean(in.dir) != "." && (len(f.tops) > 1 || in.strip > 1)
	if in.beside && f.whole[0].outside != nil {
		return treeInTar{}, f.whole[0].outside
	}
	return in, nil
}

// safeName refuses a member that would land outside the tree.
func safeName(name string) error {
	if strings.HasPrefix(name, "/") || name == ".." || strings.HasPrefix(path.Clean(name), "../") {
		return fmt.Errorf("refuse tarball: member %q points out of the tree", name)
	}
	return nil
}

func truncated(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("it is cut short: %w", err)
	}
	return err
}
