package deb

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// DpkgDir and InfoDir are where dpkg's database is.
const (
	DpkgDir = "var/lib/dpkg"
	InfoDir = DpkgDir + "/info"
)

// Layout is a root filesystem while it is written: one tar stream, or several that are unpacked one over the other, in
// which no file comes twice and directories come before what is in them.
type Layout struct {
	KeepTimes bool // the files of control parts keep their times, as with dpkg

	w       *tar.Writer
	buf     *bufio.Writer          // below w: what reads the tar is not woken for each header
	links   []string               // the directories of the root that are links into /usr
	when    time.Time              // of what belongs to no package
	leave   func(path string) bool // what is left out, by absolute paths
	owner   map[string]string      // path, without a leading slash, to the package that laid it
	dirs    map[string]*tar.Header
	changed map[string]bool // directories in which dpkg would have made something
	added   []added
}

// NewLayout begins a layout. links are the directories of the root that are links into /usr where a package has
// something in them; when dates what belongs to no package; leave, if not nil, says which files are left out.
func NewLayout(w io.Writer, links []string, when time.Time, leave func(path string) bool) *Layout {
	if leave == nil {
		leave = func(string) bool { return false }
	}
	l := &Layout{links: links, when: when.UTC().Truncate(time.Second), leave: leave,
		owner: map[string]string{}, dirs: map[string]*tar.Header{}}
	l.begin(w)
	return l
}

// begin begins a tar.
func (l *Layout) begin(w io.Writer) {
	l.buf = bufio.NewWriterSize(w, 256<<10)
	l.w, l.changed = tar.NewWriter(l.buf), map[string]bool{}
}

// MergeUsr lays one of the links into /usr, unless it is there.
func (l *Layout) MergeUsr(d string) error {
	if l.Has(d) {
		return nil
	}
	if err := l.Mkdir("usr/" + d); err != nil {
		return err
	}
	return l.Symlink(d, "usr/"+d)
}

// State is how far a package is in dpkg's database.
type State string

// The states.
const (
	Unpacked  State = "unpacked"
	Installed State = "installed"
)

// added is a package in the database.
type added struct {
	name, stanza string
	conffiles    [][2]string // path and md5
}

// Add lays one package and notes it in the database, as if dpkg unpacked it now.
func (l *Layout) Add(u *Package) error { return l.add(u, true) }

// AddExtracted is Add of a package that dpkg unpacks in directories where tar has unpacked it before.
func (l *Layout) AddExtracted(u *Package) error { return l.add(u, false) }

func (l *Layout) add(u *Package, dirs bool) error {
	name := u.Field("Package")
	if name == "" || name != filepath.Base(name) || u.Field("Architecture") == "" || u.Field("Version") == "" {
		return fmt.Errorf("package %q: its control file lacks a name, a version or an architecture", name)
	}
	made := func(h *tar.Header) bool { return dirs || h.Typeflag != tar.TypeDir }
	list, conffiles, err := l.addFiles(name, u, made)
	if err != nil {
		return fmt.Errorf("package %s: %w", name, err)
	}
	if err := l.addInfo(name, u, list); err != nil {
		return fmt.Errorf("package %s: %w", name, err)
	}
	l.added = append(l.added, added{name, u.Stanza, conffiles})
	return nil
}

// AddFiles lays a package's files alone: dpkg knows nothing of it.
func (l *Layout) AddFiles(u *Package) error {
	name := u.Field("Package")
	if _, _, err := l.addFiles(name, u, func(*tar.Header) bool { return false }); err != nil {
		return fmt.Errorf("package %s: %w", name, err)
	}
	return nil
}

// Fits reports whether Add can lay the package beside what is laid: dpkg knows ways with what is in two packages, and
// with pipes and devices. apart says of an absolute path that it is dpkg's.
func (l *Layout) Fits(u *Package, apart func(path string) bool) bool {
	for tr := tar.NewReader(bytes.NewReader(u.Data)); ; {
		h, err := nextEntry(tr)
		if err != nil {
			return errors.Is(err, io.EOF)
		}
		p, err := localPath(h.Name)
		if err != nil || apart("/"+p) {
			return false
		}
		p = l.merged(p)
		switch h.Typeflag {
		case tar.TypeDir:
			if l.owner[p] != "" && !slices.Contains(l.links, p) {
				return false
			}
		case tar.TypeReg, tar.TypeSymlink, tar.TypeLink:
			if l.Has(p) {
				return false
			}
		default:
			return false
		}
	}
}

// addFiles lays a package's files. made says which entries dpkg would have made in their directory. It returns the
// paths as the package spells them, and those of its configuration files with their md5.
func (l *Layout) addFiles(name string, u *Package, made func(*tar.Header) bool) (
	list []string, conffiles [][2]string, err error,
) {
	conf := map[string]bool{}
	for line := range strings.Lines(string(u.File("conffiles"))) {
		conf[strings.TrimSpace(line)] = true
	}
	sums := map[string]string{}
	for tr := tar.NewReader(bytes.NewReader(u.Data)); ; {
		h, err := nextEntry(tr)
		if errors.Is(err, io.EOF) {
			for _, p := range slices.Sorted(maps.Keys(sums)) {
				conffiles = append(conffiles, [2]string{p, sums[p]})
			}
			return list, conffiles, nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read data.tar: %w", err)
		}
		p, err := localPath(h.Name)
		if err != nil {
			return nil, nil, err
		}
		if p == "." {
			list = append(list, "/.")
			continue
		}
		list = append(list, "/"+p)
		if at := l.merged(p); made(h) && l.dirs[at] == nil {
			l.changed[path.Dir(at)] = true
		}
		var body io.Reader = tr
		if conf["/"+p] {
			sum := md5.New()
			body = io.TeeReader(tr, sum)
			if err := l.addEntry(name, h, p, body); err != nil {
				return nil, nil, err
			}
			sums["/"+p] = hex.EncodeToString(sum.Sum(nil))
			continue
		}
		if err := l.addEntry(name, h, p, body); err != nil {
			return nil, nil, err
		}
	}
}

// addEntry lays one entry of a package's tar at p.
func (l *Layout) addEntry(pkg string, h *tar.Header, p string, body io.Reader) error {
	out := &tar.Header{Typeflag: h.Typeflag, Mode: h.Mode & 0o7777, Uid: h.Uid, Gid: h.Gid,
		ModTime: h.ModTime.Truncate(time.Second)}
	top, _, _ := strings.Cut(p, "/")
	usr := slices.Contains(l.links, top)
	switch h.Typeflag {
	case tar.TypeDir:
		if usr && p == top {
			return l.MergeUsr(top)
		}
		if l.dirs[l.merged(p)] != nil {
			return nil // the first to lay a directory decides, as with dpkg
		}
	case tar.TypeReg:
		out.Size = h.Size
	case tar.TypeSymlink:
		out.Linkname = h.Linkname
		if usr && p == top && path.Clean(h.Linkname) == "usr/"+p { // what a base-files of Debian 13 carries itself
			if l.Has(p) {
				return nil
			}
			out.Name = p
			return l.put(pkg, out, nil)
		}
	case tar.TypeLink:
		target, err := localPath(h.Linkname)
		if err != nil {
			return err
		}
		out.Linkname = l.merged(target)
		if l.leave("/" + target) {
			return fmt.Errorf("%s is a hard link to %s, which is left out", p, target)
		}
	default:
		return fmt.Errorf("%s is of a type (%q) that a package's file cannot have", p, h.Typeflag)
	}
	if usr && p == top {
		return fmt.Errorf("%s would replace a link of the merged /usr", p)
	}
	if l.leave("/" + p) {
		return nil
	}
	if usr {
		if err := l.MergeUsr(top); err != nil {
			return err
		}
	}
	out.Name = l.merged(p)
	return l.put(pkg, out, body)
}

// addInfo writes the package's part of /var/lib/dpkg/info.
func (l *Layout) addInfo(name string, u *Package, list []string) error {
	if u.Field("Multi-Arch") == "same" {
		name += ":" + u.Field("Architecture")
	}
	if err := l.File(InfoDir+"/"+name+".list", 0o644, []byte(strings.Join(list, "\n")+"\n")); err != nil {
		return err
	}
	for _, f := range u.Info {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: InfoDir + "/" + name + "." + f.Name, Mode: f.Mode,
			Size: int64(len(f.Body)), ModTime: l.when}
		if l.KeepTimes {
			h.ModTime = f.Time
		}
		if err := l.put("", h, bytes.NewReader(f.Body)); err != nil {
			return err
		}
	}
	return nil
}

// Has reports whether there is a file, a link or a directory of this name.
func (l *Layout) Has(name string) bool {
	_, file := l.owner[name]
	return file || l.dirs[name] != nil
}

// Status is dpkg's status of the packages that were added since the last call. Configuration files are noted as
// installed, with the sum of what was laid: dpkg then leaves them be.
func (l *Layout) Status(state func(name string) State) []byte {
	var b bytes.Buffer
	for _, p := range l.added {
		fmt.Fprintf(&b, "%s\nStatus: install ok %s\n", p.stanza, state(p.name))
		if len(p.conffiles) > 0 {
			b.WriteString("Conffiles:\n")
		}
		for _, f := range p.conffiles {
			fmt.Fprintf(&b, " %s %s\n", f[0], f[1])
		}
		b.WriteString("\n")
	}
	l.added = nil
	return b.Bytes()
}

// Close ends the tar.
func (l *Layout) Close() error { return errors.Join(l.w.Close(), l.buf.Flush()) }

// Next ends the tar, and goes on with one that is unpacked over it later, whose writer it then asks for. What the
// directories of this one have become by then stays: only their times change, where files are laid in them.
func (l *Layout) Next(w func() io.Writer) error {
	if err := errors.Join(l.DateDirs(), l.Close()); err != nil {
		return err
	}
	l.begin(w())
	for _, h := range l.dirs {
		h.ModTime = l.when // for DateDirs, they are dated
	}
	return nil
}

// DateDirs gives the directories of added packages the time that they would have, had dpkg made their files now.
func (l *Layout) DateDirs() error {
	for _, d := range slices.Sorted(maps.Keys(l.changed)) {
		h := l.dirs[d]
		if h == nil || h.ModTime.Equal(l.when) {
			continue
		}
		h.ModTime = l.when
		if err := l.w.WriteHeader(h); err != nil {
			return fmt.Errorf("write %s: %w", h.Name, err)
		}
	}
	return nil
}

// File lays a file that belongs to no package.
func (l *Layout) File(name string, mode int64, body []byte) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(body)), ModTime: l.when}
	return l.put("", h, bytes.NewReader(body))
}

// Symlink lays a symbolic link that belongs to no package.
func (l *Layout) Symlink(name, target string) error {
	h := &tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777, ModTime: l.when}
	return l.put("", h, nil)
}

// Mkdir lays a directory of mode 0755 that belongs to no package, and those above it, unless they are there.
func (l *Layout) Mkdir(name string) error {
	if name == "." || l.dirs[name] != nil {
		return nil
	}
	return l.put("", &tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: l.when}, nil)
}

// put writes one entry, and the directories above it that are missing. Nothing replaces what is there or lies
// behind a link: the tar then means the same to every program that reads it.
func (l *Layout) put(pkg string, h *tar.Header, body io.Reader) error {
	for p := h.Name; p != "."; p = path.Dir(p) {
		if other, ok := l.owner[p]; ok {
			return fmt.Errorf("%s: %s is in package %s too", h.Name, p, other)
		}
	}
	if l.dirs[h.Name] != nil {
		return fmt.Errorf("%s is a directory of another package", h.Name)
	}
	if err := l.Mkdir(path.Dir(h.Name)); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		l.dirs[h.Name] = h
		h.Name += "/"
	} else {
		l.owner[h.Name] = pkg
	}
	if err := l.w.WriteHeader(h); err != nil {
		return fmt.Errorf("write %s: %w", h.Name, err)
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	if _, err := io.Copy(l.w, body); err != nil {
		return fmt.Errorf("write %s: %w", h.Name, err)
	}
	return nil
}

// localPath cleans a path of a package ("./usr/bin/x") and refuses one that could lead out of the root.
func localPath(name string) (string, error) {
	p := strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/")
	if p == "" || p == "." {
		return ".", nil
	}
	if !filepath.IsLocal(p) || path.Clean(p) != p || strings.ContainsAny(p, "\x00\n") {
		return "", fmt.Errorf("%q is not a path inside a package", name)
	}
	return p, nil
}

// merged is where p is in a root whose top directories are links into /usr.
func (l *Layout) merged(p string) string {
	if top, _, below := strings.Cut(p, "/"); below && slices.Contains(l.links, top) {
		return "usr/" + p
	}
	return p
}
