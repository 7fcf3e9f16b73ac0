package archive

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"pault.ag/go/debian/control"

	"github.com/kimg/kimg/internal/suite"
)

// source is one archive that apt is told of: "deb URI suite component...".
type source struct {
	uri, suite string
	components []string
}

// HostMirror finds the mirror of a family that the apt configuration below root
// uses: the first that serves a release of the family itself (not only its
// updates) with the component main.
func HostMirror(root string, family *suite.Family) (Mirror, bool) {
	for _, name := range sourceFiles(root) {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		parse := parseSourcesList
		if strings.HasSuffix(name, ".sources") {
			parse = parseSources
		}
		for _, src := range parse(b) {
			url, err := mirrorURL(src.uri)
			if err != nil || !src.isPlain(family) {
				continue
			}
			shown, err := filepath.Rel(root, name)
			if err != nil {
				shown = name
			}
			return readAptConf(root).mirror(url, "/"+shown), true
		}
	}
	return Mirror{}, false
}

// sourceFiles lists what apt reads, in its order. sources.list(5).
func sourceFiles(root string) []string {
	dir := filepath.Join(root, "etc", "apt")
	names := []string{filepath.Join(dir, "sources.list")}
	list, _ := filepath.Glob(filepath.Join(dir, "sources.list.d", "*.list"))
	sources, _ := filepath.Glob(filepath.Join(dir, "sources.list.d", "*.sources"))
	parts := append(list, sources...)
	slices.Sort(parts)
	return append(names, parts...)
}

// isPlain tells a distribution's own archive from the archive of its updates,
// whose host may have nothing else, and from third parties', which often name
// the same suites: they have other components or another place.
func (s source) isPlain(family *suite.Family) bool {
	uri := strings.TrimRight(s.uri, "/")
	known, err := suite.Parse(s.suite)
	isRelease := err == nil && known.Family == family || slices.Contains(family.Releases, s.suite)
	return isRelease && slices.Contains(s.components, "main") && s.isFamilys(uri, family)
}

// isFamilys looks at the path, which is the same on every full mirror: the
// archive ends in /debian or /ubuntu (below a snapshot service, in a time).
func (s source) isFamilys(uri string, family *suite.Family) bool {
	m := Mirror{URL: uri}
	return strings.HasSuffix(uri, "/"+family.Name) || m.isSnapshot() && strings.Contains(uri, "/"+family.Name+"/")
}

// parseSourcesList reads the one-line format. What apt would complain about is
// passed over: the host's apt is not ours to check.
func parseSourcesList(b []byte) []source {
	var all []source
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		rest, isDeb := strings.CutPrefix(strings.TrimSpace(line), "deb")
		if !isDeb || strings.TrimLeft(rest, " \t") == rest { // deb-src, or nothing
			continue
		}
		rest = strings.TrimSpace(rest)
		if strings.HasPrefix(rest, "[") {
			var options string
			options, rest, _ = strings.Cut(rest[1:], "]")
			if !servesArch(option(options, "arch"), ",") {
				continue
			}
		}
		if f := strings.Fields(rest); len(f) >= 2 {
			all = append(all, source{uri: f[0], suite: f[1], components: f[2:]})
		}
	}
	return all
}

// option finds the value of a name in "[name=value name=value]".
func option(options, name string) string {
	for _, o := range strings.Fields(options) {
		if v, ok := strings.CutPrefix(o, name+"="); ok {
			return v
		}
	}
	return ""
}

// servesArch reads a list of architectures; none means all.
func servesArch(list, separator string) bool {
	return list == "" || slices.Contains(strings.Split(list, separator), Arch)
}

// parseSources reads the deb822 format.
func parseSources(b []byte) []source {
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("-----BEGIN PGP")) {
		return nil // control would take it for a signed document
	}
	r, err := control.NewParagraphReader(bytes.NewReader(b), nil)
	if err != nil {
		return nil
	}
	var all []source
	for {
		p, err := r.Next()
		if err != nil {
			return all
		}
		field := func(name string) []string {
			for k, v := range p.Values {
				if strings.EqualFold(k, name) {
					return strings.Fields(v)
				}
			}
			return nil
		}
		if enabled := field("Enabled"); len(enabled) > 0 && isNo(enabled[0]) {
			continue
		}
		if !slices.Contains(field("Types"), "deb") || !servesArch(strings.Join(field("Architectures"), " "), " ") {
			continue
		}
		for _, uri := range field("URIs") {
			for _, suite := range field("Suites") {
				all = append(all, source{uri: uri, suite: suite, components: field("Components")})
			}
		}
	}
}
