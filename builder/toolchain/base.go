package toolchain

import (
	"archive/tar"
	"bytes"
	"context"
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

	"github.com/kimg/kimg/internal/arch"
)

// baseVersion is raised by changes of this file that change the bytes of a base. It
// goes into the images' tags; TestBaseVersion says when.
const baseVersion = "1"

// dropped are the files that are left out of the images, as dpkg's path-exclude: a * matches slashes too. Manuals
// are not read in a toolchain image, and each file that is not written shortens a cold build. Packages' own records
// (dpkg's lists) still name them.
var dropped = []string{
	"/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*",
	"/usr/share/lintian/*", "/usr/share/bug/*", "/usr/share/doc-base/*", "/usr/share/bash-completion/*",
	"/usr/share/zsh/*", "/usr/share/applications/*", "/usr/share/icons/*", "/usr/share/pixmaps/*",
	"/usr/share/zoneinfo/*", "/usr/share/alsa/*", "/usr/lib/python3*/test/*",
	// What gcc has for programs other than a kernel: half of its files' size.
	// A kernel with link-time optimisation wants clang.
	"/usr/bin/*lto-dump*", "/usr/lib*/gcc/*/lto1",
	"/usr/lib/*/libasan.*", "/usr/lib/*/libhwasan.*", "/usr/lib/*/liblsan.*", "/usr/lib/*/libtsan.*",
	"/usr/lib/*/libubsan.*",
	"/usr/lib/*/libcrypto.a", "/usr/lib/*/libssl.a",
	// QEMU's other machines.
	"/usr/bin/qemu-system-i386", "/usr/bin/qemu-system-x86_64-microvm", "/usr/bin/qemu-storage-daemon",
	"/usr/share/qemu/hppa-*", "/usr/share/qemu/openbios-*", "/usr/share/qemu/opensbi-*", "/usr/share/qemu/palcode-*",
	"/usr/share/qemu/s390-*", "/usr/share/qemu/skiboot*", "/usr/share/qemu/slof*", "/usr/share/qemu/u-boot*",
	"/usr/share/qemu/qemu_vga.ndrv", "/usr/share/qemu/vof*", "/usr/share/qemu/petalogix-*",
	"/usr/share/qemu/bamboo.dtb",
}

// layout is a base while it is written: one tar stream, in which nothing comes
// twice and directories come before what is in them.
type layout struct {
	w     *tar.Writer
	links []string          // the directories of the root that are links into /usr
	when  time.Time         // of what belongs to no package
	owner map[string]string // path, without a leading slash, to the package that laid it
	dirs  map[string]bool
	st    strings.Builder // dpkg's status
}

// layBase writes the tar of a root filesystem in which the packages (in order) are unpacked and none is configured,
// with dpkg's database saying just that: so "dpkg --configure -a" in a container finishes it. when dates what
// belongs to no package. The packages come from next, which returns io.EOF after the last; the same packages give
// the same bytes.
//
// dpkg --install of the same packages over the tree, as debootstrap does it,
// would write every file a second time and keep both in the image.
func layBase(ctx context.Context, w io.Writer, a arch.Arch, when time.Time, next func() (*unpacked, error)) error {
	l := &layout{w: tar.NewWriter(w), links: strings.Fields(a.UsrLinks), when: when.UTC().Truncate(time.Second),
		owner: map[string]string{}, dirs: map[string]bool{}}
	if err := l.begin(); err != nil {
		return fmt.Errorf("lay base: %w", err)
	}
	for {
		if err := context.Cause(ctx); err != nil {
			return fmt.Errorf("lay base: %w", err)
		}
		u, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = l.add(u)
		}
		if err != nil {
			return fmt.Errorf("lay base: %w", err)
		}
	}
	if err := l.finish(); err != nil {
		return fmt.Errorf("lay base: %w", err)
	}
	return nil
}

// begin lays the links of the merged /usr, so that everything after them can only land behind them.
func (l *layout) begin() error {
	for _, d := range l.links {
		if err := l.mkdir("usr/" + d); err != nil {
			return err
		}
		if err := l.symlink(d, "usr/"+d); err != nil {
			return err
		}
	}
	return nil
}

// add lays one package and notes it in the database.
func (l *layout) add(u *unpacked) error {
	name := u.field("Package")
	if name == "" || name != filepath.Base(name) || u.field("Architecture") == "" || u.field("Version") == "" {
		return fmt.Errorf("package %q: its control file lacks a name, a version or an architecture", name)
	}
	list, sums, err := l.addFiles(name, u)
	if err != nil {
		return fmt.Errorf("package %s: %w", name, err)
	}
	if err := l.addInfo(name, u, list); err != nil {
		return fmt.Errorf("package %s: %w", name, err)
	}
	l.addStatus(u, sums)
	return nil
}

// addFiles lays a package's files. It returns their paths as the package spells
// them and the md5 of its configuration files.
func (l *layout) addFiles(name string, u *unpacked) (list []string, sums map[string]string, err error) {
	conf := map[string]bool{}
	for line := range strings.Lines(string(u.file("conffiles"))) {
		conf[strings.TrimSpace(line)] = true
	}
	sums = map[string]string{}
	for tr := tar.NewReader(bytes.NewReader(u.data)); ; {
		h, err := nextEntry(tr)
		if errors.Is(err, io.EOF) {
			return list, sums, nil
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
func (l *layout) addEntry(pkg string, h *tar.Header, p string, body io.Reader) error {
	out := &tar.Header{Typeflag: h.Typeflag, Mode: h.Mode & 0o7777, Uid: h.Uid, Gid: h.Gid,
		ModTime: h.ModTime.Truncate(time.Second)}
	switch h.Typeflag {
	case tar.TypeDir:
		if slices.Contains(l.links, p) || l.dirs[l.merged(p)] {
			return nil // the first to lay a directory decides, as with dpkg
		}
	case tar.TypeReg:
		out.Size = h.Size
	case tar.TypeSymlink:
		if slices.Contains(l.links, p) && path.Clean(h.Linkname) == "usr/"+p {
			return nil // what a base-files of Debian 13 carries itself
		}
		out.Linkname = h.Linkname
	case tar.TypeLink:
		target, err := localPath(h.Linkname)
		if err != nil {
			return err
		}
		out.Linkname = l.merged(target)
		if drop("/" + target) {
			return fmt.Errorf("%s is a hard link to %s, which is left out", p, target)
		}
	default:
		return fmt.Errorf("%s is of a type (%q) that a package's file cannot have", p, h.Typeflag)
	}
	if slices.Contains(l.links, p) {
		return fmt.Errorf("%s would replace a link of the merged /usr", p)
	}
	if drop("/" + p) {
		return nil
	}
	out.Name = l.merged(p)
	return l.put(pkg, out, body)
}

// addInfo writes the package's part of /var/lib/dpkg/info.
func (l *layout) addInfo(name string, u *unpacked, list []string) error {
	if u.field("Multi-Arch") == "same" {
		name += ":" + u.field("Architecture")
	}
	if err := l.file(infoDir+"/"+name+".list", 0o644, []byte(strings.Join(list, "\n")+"\n")); err != nil {
		return err
	}
	for _, f := range u.info {
		if err := l.file(infoDir+"/"+name+"."+f.name, f.mode, f.body); err != nil {
			return err
		}
	}
	return nil
}

// addStatus writes the package's stanza in dpkg's status. Configuration files
// are noted as installed, with the sum of what was laid: dpkg then leaves them be.
func (l *layout) addStatus(u *unpacked, sums map[string]string) {
	l.st.WriteString(u.stanza + "\nStatus: install ok unpacked\n")
	if len(sums) > 0 {
		l.st.WriteString("Conffiles:\n")
		for _, p := range slices.Sorted(maps.Keys(sums)) {
			l.st.WriteString(" " + p + " " + sums[p] + "\n")
		}
	}
	l.st.WriteString("\n")
}

const (
	dpkgDir = "var/lib/dpkg"
	infoDir = dpkgDir + "/info"
)

// finish lays what belongs to no package and ends the tar.
func (l *layout) finish() error {
	var cfg strings.Builder
	cfg.WriteString("# What this image does without.\nforce-unsafe-io\n")
	for _, p := range dropped {
		cfg.WriteString("path-exclude=" + p + "\n")
	}
	for _, f := range []struct{ name, body string }{
		{dpkgDir + "/status", l.st.String()},
		{dpkgDir + "/available", ""},
		{infoDir + "/format", "1\n"},
		{"etc/dpkg/dpkg.cfg.d/kimg", cfg.String()},
	} {
		if err := l.file(f.name, 0o644, []byte(f.body)); err != nil {
			return err
		}
	}
	// Scripts call awk before mawk's own has made this link an alternative.
	if _, ok := l.owner["usr/bin/mawk"]; ok {
		if err := l.symlink("usr/bin/awk", "mawk"); err != nil {
			return err
		}
	}
	return l.w.Close()
}

func (l *layout) file(name string, mode int64, body []byte) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(body)), ModTime: l.when}
	return l.put("", h, bytes.NewReader(body))
}

func (l *layout) symlink(name, target string) error {
	h := &tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777, ModTime: l.when}
	return l.put("", h, nil)
}

func (l *layout) mkdir(name string) error {
	if name == "." || l.dirs[name] {
		return nil
	}
	return l.put("", &tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: l.when}, nil)
}

// put writes one entry, and the directories above it that are missing. Nothing replaces what is there or lies
// behind a link: the tar then means the same to every program that reads it.
func (l *layout) put(pkg string, h *tar.Header, body io.Reader) error {
	for p := h.Name; p != "."; p = path.Dir(p) {
		if other, ok := l.owner[p]; ok {
			return fmt.Errorf("%s: %s is in package %s too", h.Name, p, other)
		}
	}
	if l.dirs[h.Name] {
		return fmt.Errorf("%s is a directory of another package", h.Name)
	}
	if err := l.mkdir(path.Dir(h.Name)); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		l.dirs[h.Name] = true
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
func (l *layout) merged(p string) string {
	if top, _, below := strings.Cut(p, "/"); below && slices.Contains(l.links, top) {
		return "usr/" + p
	}
	return p
}

// drop reports whether a file with this absolute path is left out.
func drop(p string) bool {
	for _, pattern := range dropped {
		if ok := matchSlashes(pattern, p); ok {
			return true
		}
	}
	return false
}

// matchSlashes matches as fnmatch(3) does without FNM_PATHNAME, for patterns
// that have no other special character than the star.
func matchSlashes(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	rest, ok := strings.CutPrefix(s, parts[0])
	if !ok {
		return false
	}
	for i, part := range parts[1:] {
		if i == len(parts)-2 {
			return strings.HasSuffix(rest, part)
		}
		at := strings.Index(rest, part)
		if at < 0 {
			return false
		}
		rest = rest[at+len(part):]
	}
	return rest == ""
}
