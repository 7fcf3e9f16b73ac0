package archive

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// aptConf is the host's apt configuration: names in lower case, as apt ignores case,
// with the value that was set last.
type aptConf map[string]string

// readAptConf reads what apt would below root, in apt's order. Files that cannot be
// read are skipped: apt may not even be there.
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
	m.Proxy = conf["acquire::"+scheme+"::proxy::"+strings.ToLower(host)]
	if m.Proxy == "" {
		m.Proxy = conf["acquire::"+scheme+"::proxy"]
	}
	m.AllowExpired = isNo(conf["acquire::check-valid-until"])
	return m
}

// isNo is apt's notion of false.
func isNo(s string) bool {
	return slices.Contains([]string{"no", "false", "without", "off", "disable", "0"}, strings.ToLower(s))
}

// parse reads the syntax of apt.conf(5): "Name value;" and "Name { ... };", with
// comments of three kinds. It never fails: what has no name is skipped.
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
