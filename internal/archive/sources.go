package archive

import (
	"cmp"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/deb822"
	"github.com/kimg/kimg/internal/suite"
)

// source is one archive of apt's configuration: "deb URI suite component...".
type source struct {
	uri, suite string
	components []string
}

// hostMirror finds the mirror of a family that the host's apt configuration uses: the first that serves a release
// of the family itself (not only its updates) with the component main.
func (q MirrorQuery) hostMirror() (Mirror, bool) {
	for _, name := range sourceFiles(q.Root) {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		parse := parseSourcesList
		if strings.HasSuffix(name, ".sources") {
			parse = parseSources
		}
		for _, src := range parse(b, q.Arch) {
			url, err := mirrorURL(src.uri)
			if err != nil || !q.isPlain(src) {
				continue
			}
			shown, err := filepath.Rel(q.Root, name)
			if err != nil {
				shown = name
			}
			return readAptConf(q.Root).mirror(url, "/"+shown), true
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

// isPlain reports whether it is a distribution's own archive. That of its updates may have nothing else on its
// host, and third parties, which often name the same suites, have other components or another place.
func (q MirrorQuery) isPlain(s source) bool {
	known, err := suite.Parse(s.suite)
	isRelease := err == nil && known.Family == q.Family || slices.Contains(q.Family.Releases, s.suite)
	return isRelease && slices.Contains(s.components, "main") && q.isFamilys(strings.TrimRight(s.uri, "/"))
}

// isFamilys looks at the path: an archive ends in /debian, /ubuntu or, for ports, /ubuntu-ports; that of a snapshot
// service in a time.
func (q MirrorQuery) isFamilys(uri string) bool {
	end := "/" + q.Family.Name
	if (Mirror{URL: uri}).isSnapshot() && strings.Contains(uri, end+"/") {
		return true
	}
	if q.ports() {
		end = "/" + q.Family.Ports
	}
	return strings.HasSuffix(uri, end)
}

// parseSourcesList reads the one-line format. What apt would complain about is skipped.
func parseSourcesList(b []byte, a arch.Arch) []source {
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
			if !servesArch(strings.Split(option(options, "arch"), ","), a) {
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

// servesArch looks for an architecture in a list; an empty one means all.
func servesArch(list []string, a arch.Arch) bool {
	return strings.Join(list, "") == "" || slices.Contains(list, a.Name)
}

// parseSources reads the deb822 format, as far as it is one.
func parseSources(b []byte, a arch.Arch) []source {
	var all []source
	for stanza := range deb822.Stanzas(comments.ReplaceAllString(string(b), "")) {
		p, err := deb822.Map(stanza)
		if err != nil {
			return all
		}
		field := func(name string) []string { return strings.Fields(p[name]) }
		if enabled := field("enabled"); len(enabled) > 0 && isNo(enabled[0]) {
			continue
		}
		if !slices.Contains(field("types"), "deb") || !servesArch(field("architectures"), a) {
			continue
		}
		for _, uri := range field("uris") {
			for _, suite := range field("suites") {
				all = append(all, source{uri: uri, suite: suite, components: field("components")})
			}
		}
	}
	return all
}

var comments = regexp.MustCompile(`(?m)^#.*\n?`)

// aptConf is the host's apt configuration, by names in lower case: apt ignores case, and the last value counts.
type aptConf map[string]string

// readAptConf reads what apt would below root, in apt's order, and skips what cannot be read.
func readAptConf(root string) aptConf {
	conf := make(aptConf)
	dir := filepath.Join(root, "etc", "apt")
	parts, _ := filepath.Glob(filepath.Join(dir, "apt.conf.d", "*"))
	slices.Sort(parts)
	for _, name := range append(parts, filepath.Join(dir, "apt.conf")) {
		if strings.Contains(strings.TrimSuffix(filepath.Base(name), ".conf"), ".") {
			continue // apt.conf(5): other suffixes are what package managers leave behind
		}
		if b, err := os.ReadFile(name); err == nil {
			conf.parse(string(b))
		}
	}
	return conf
}

// mirror is the mirror at url, which was checked, as apt would use it.
func (conf aptConf) mirror(url, from string) Mirror {
	m := Mirror{URL: url, From: from}
	scheme, rest, _ := strings.Cut(url, "://")
	host, _, _ := strings.Cut(rest, "/")
	host, _, _ = strings.Cut(host, ":")
	proxy := "acquire::" + scheme + "::proxy"
	m.Proxy = cmp.Or(conf[proxy+"::"+strings.ToLower(host)], conf[proxy])
	m.AllowExpired = isNo(conf["acquire::check-valid-until"])
	return m
}

// isNo is apt's notion of false.
func isNo(s string) bool {
	return slices.Contains([]string{"no", "false", "without", "off", "disable", "0"}, strings.ToLower(s))
}

// parse reads apt.conf(5): "Name value;", "Name { ... };" and comments of three kinds. What has no name is skipped.
func (conf aptConf) parse(text string) {
	var scopes, words []string
	set := func() {
		if len(words) > 1 {
			conf[strings.ToLower(strings.Join(append(slices.Clone(scopes), words[0]), "::"))] = words[1]
		}
		words = nil
	}
	for tokens := (aptTokens{text}); ; {
		switch token, quoted := tokens.next(); {
		case token == "" && !quoted:
			return
		case quoted:
			words = append(words, token)
		case token == "{":
			scopes = append(scopes, strings.Join(words, "::"))
			words = nil
		case token == "}":
			words = nil
			if len(scopes) > 0 {
				scopes = scopes[:len(scopes)-1]
			}
		case token == ";":
			set()
		default:
			words = append(words, token)
		}
	}
}

// aptTokens splits a text into words, quoted words and the signs { } ;
type aptTokens struct{ text string }

// next returns "" at the end.
func (t *aptTokens) next() (token string, quoted bool) {
	for {
		t.text = strings.TrimLeft(t.text, " \t\r\n")
		switch {
		case t.text == "":
			return "", false
		case strings.HasPrefix(t.text, "//"), strings.HasPrefix(t.text, "#"):
			_, t.text, _ = strings.Cut(t.text, "\n")
		case strings.HasPrefix(t.text, "/*"):
			_, t.text, _ = strings.Cut(t.text, "*/")
		case t.text[0] == '"':
			token, t.text, _ = strings.Cut(t.text[1:], `"`)
			return token, true
		case strings.ContainsRune("{};", rune(t.text[0])):
			token, t.text = t.text[:1], t.text[1:]
			return token, false
		default:
			i := strings.IndexAny(t.text, " \t\r\n{};\"")
			if i < 0 {
				i = len(t.text)
			}
			token, t.text = t.text[:i], t.text[i:]
			return token, false
		}
	}
}
