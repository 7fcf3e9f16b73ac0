package compare

import (
	"path"
	"strings"

	"github.com/kimg/kimg/ext4"
	"github.com/kimg/kimg/internal/deb822"
)

type packages struct {
	img     *ext4.Image
	version map[string]string // version and architecture, by name
}

// The dpkg database.
const (
	dpkgStatus = "var/lib/dpkg/status"
	dpkgInfo   = "var/lib/dpkg/info"
	maxStatus  = 64 << 20
)

// readPackages reads an image's dpkg status. An image without one has no packages.
func readPackages(img *ext4.Image) *packages {
	p := &packages{img: img, version: map[string]string{}}
	if st, err := img.Stat(dpkgStatus); err != nil || st.Size() > maxStatus {
		return p
	}
	b, err := img.ReadFile(dpkgStatus)
	if err != nil {
		return p
	}
	for stanza := range deb822.Stanzas(string(b)) {
		// A guest may have damaged the file: a stanza that cannot be read is skipped.
		if f, err := deb822.Map(stanza); err == nil && f["package"] != "" {
			p.version[f["package"]] = f["version"] + " " + f["architecture"]
		}
	}
	return p
}

// infoFiles are the files of a package in dpkgInfo, by what follows its name.
var infoFiles = []string{
	"list", "md5sums", "conffiles", "triggers", "shlibs", "symbols", "preinst", "postinst", "prerm", "postrm",
	"templates",
}

func (p *packages) files(name string, set map[string]bool) {
	arch := p.version[name]
	arch = arch[strings.LastIndexByte(arch, ' ')+1:]
	for _, list := range []string{name + ".list", name + ":" + arch + ".list"} {
		file := path.Join(dpkgInfo, list)
		if st, err := p.img.Stat(file); err != nil || st.Size() > maxStatus {
			continue
		}
		b, err := p.img.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			f := strings.TrimPrefix(strings.TrimSpace(line), "/")
			if st, err := p.img.Lstat(f); err == nil && !st.IsDir() {
				set[f] = true
			}
			if top, rest, ok := strings.Cut(f, "/"); ok { // /bin may be a link to /usr/bin
				if to, err := p.img.ReadLink(top); err == nil {
					set[path.Join(to, rest)] = true
				}
			}
		}
		for _, ext := range infoFiles {
			set[strings.TrimSuffix(file, "list")+ext] = true
		}
	}
}

// movedFiles are the files of the packages whose versions differ in two images.
func movedFiles(a, b *tree) (files map[string]bool, any bool) {
	files = map[string]bool{}
	for _, name := range keys(a.dpkg.version, b.dpkg.version) {
		if a.dpkg.version[name] != b.dpkg.version[name] {
			any = true
			a.dpkg.files(name, files)
			b.dpkg.files(name, files)
		}
	}
	// A directory that both have is shared by packages.
	for f := range files {
		n, ok := a.nodes[f]
		m, both := b.nodes[f]
		if ok && both && n.Info().IsDir() && m.Info().IsDir() {
			delete(files, f)
		}
	}
	return files, any
}

// derived reports whether a file is generated from the installed packages.
func derived(name string) bool {
	return strings.HasPrefix(name, "var/lib/dpkg/") || strings.HasPrefix(name, "var/cache/") ||
		name == "etc/ld.so.cache" || name == "usr/share/info/dir"
}
