package archive

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/deb822"
)

// Line is an archive besides a suite's own, as a line of apt's sources.list(5) names it.
type Line struct {
	URL        string   // without a slash at its end
	Suite      string   // below dists/; of a flat archive the directory that the lists are in, with a slash at its end
	Components []string // none of a flat archive
	Key        string   // file of the keys that may sign it, or several, apart by commas

	arches []string // that it is for; none: any
}

// lineForm is what is wanted.
const lineForm = "'deb [signed-by=KEY] URL SUITE COMPONENT...'"

// The parts of a line, which become parts of addresses and of a lock.
var (
	lineSuite     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]*(/[A-Za-z0-9._+~-]+)*$`)
	lineDirectory = regexp.MustCompile(`^(\./|/|[A-Za-z0-9][A-Za-z0-9._+~-]*/)([A-Za-z0-9._+~-]+/)*$`)
)

// ParseLine reads a line. What apt would take and kimg does not is refused by its name.
func ParseLine(text string) (Line, error) {
	text = strings.TrimSpace(text)
	if plain, comment, ok := strings.Cut(text, "#"); ok && plain != "" && !strings.Contains(comment, "\n") {
		text = strings.TrimSpace(plain)
	}
	if err := notALine(text); err != nil {
		return Line{}, err
	}
	var l Line
	rest := strings.TrimSpace(strings.TrimPrefix(text, "deb"))
	if strings.HasPrefix(rest, "[") {
		options, behind, closed := strings.Cut(rest[1:], "]")
		if !closed {
			return l, errors.New("the options have no ] at their end: want " + lineForm)
		}
		if err := l.options(options); err != nil {
			return l, err
		}
		rest = behind
	}
	if l.Key == "" {
		return l, errors.New("it does not say who signs it: want " + lineForm + ", where KEY is a file of OpenPGP keys")
	}
	f := strings.Fields(rest)
	if len(f) < 2 {
		return l, errors.New("want " + lineForm)
	}
	l.Suite, l.Components = f[1], slices.Clip(f[2:])
	var err error
	if l.URL, err = lineURL(f[0]); err != nil {
		return l, err
	}
	return l, l.checkSuite()
}

// IsAptFile tells the name of one of apt's files from a line.
func IsAptFile(text string) bool {
	ext := path.Ext(text)
	return (ext == ".sources" || ext == ".list") && !strings.ContainsAny(text, " \t\n")
}

// notALine tells what a text is that is no line.
func notALine(text string) error {
	kind, _, _ := strings.Cut(strings.Join(strings.Fields(text), " "), " ")
	kind, _, _ = strings.Cut(kind, "[")
	switch {
	case strings.HasPrefix(strings.ToLower(text), "types:") || strings.Contains(text, "\n"):
		return fmt.Errorf("want one line, and not the deb822 form: %s", oneLineForm(text))
	case strings.HasPrefix(text, "ppa:"):
		return errors.New("a PPA is an archive like others: deb [signed-by=KEY] " +
			"https://ppa.launchpadcontent.net/OWNER/NAME/ubuntu SUITE main")
	case strings.HasPrefix(text, "#"):
		return errors.New("it is a comment: leave the # out")
	case shellWord.MatchString(text):
		return fmt.Errorf("%s is for a shell to fill in, and none reads this: write what it stands for, such as "+
			"trixie or amd64", shellWord.FindString(text))
	case kind == "deb-src":
		return errors.New("deb-src names sources, and kimg installs packages: want " + lineForm)
	case IsAptFile(text):
		return fmt.Errorf("%s is a file of apt's: want a line as it is in such a .list: %s", text, lineForm)
	case kind != "deb":
		return fmt.Errorf("%.60q is no archive: want %s", text, lineForm)
	}
	return nil
}

// shellWord is what the lines of vendors' pages have in them, for the shell that they are pasted into.
var shellWord = regexp.MustCompile(`\$\([^()]*(\([^()]*\))?[^()]*\)|\$\{?[A-Za-z_][A-Za-z0-9_]*\}?|\x60[^\x60]*\x60`)

// LinesOf are the lines of one of apt's files, as they are to be given to kimg.
func LinesOf(text string) string {
	var all []string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.Join(strings.Fields(line), " "); strings.HasPrefix(line, "deb ") {
			all = append(all, "'"+line+"'")
		}
	}
	if len(all) > 0 {
		return strings.Join(all, " and ")
	}
	return oneLineForm(text)
}

// oneLineForm turns a stanza of a .sources file into lines.
func oneLineForm(text string) string {
	var all []string
	for stanza := range deb822.Stanzas(text) {
		m, err := deb822.Map(stanza)
		if err != nil || m["uris"] == "" || m["suites"] == "" {
			return lineForm
		}
		key := m["signed-by"]
		if key == "" || strings.Contains(key, "\n") { // a key itself
			key = "KEY"
		}
		key = strings.Join(strings.FieldsFunc(key, func(r rune) bool { return r == ',' || r == ' ' }), ",")
		for _, uri := range strings.Fields(m["uris"]) {
			for _, suite := range strings.Fields(m["suites"]) {
				l := Line{URL: uri, Suite: suite, Components: strings.Fields(m["components"]), Key: key}
				all = append(all, "'"+l.String()+"'")
			}
		}
	}
	return strings.Join(all, " and ")
}

// options reads what stands in brackets.
func (l *Line) options(text string) error {
	for _, o := range strings.Fields(text) {
		name, value, _ := strings.Cut(o, "=")
		value = strings.Trim(value, `"`)
		switch strings.ToLower(name) {
		case "signed-by":
			for file := range strings.SplitSeq(value, ",") {
				if fingerprints.MatchString(file) {
					return fmt.Errorf("signed-by=%s is a fingerprint, and no keyring of this machine is searched "+
						"for it: name the file that has the key", file)
				}
			}
			if l.Key != "" {
				return fmt.Errorf("signed-by is there twice: several files are apart by commas, as in "+
					"[signed-by=%s,%s]", l.Key, value)
			}
			l.Key = strings.Trim(value, ",")
		case "arch":
			l.arches = strings.Split(value, ",")
		case "trusted", "allow-insecure", "allow-weak", "allow-downgrade-to-insecure":
			return fmt.Errorf("[%s] is refused: kimg takes no package that nobody vouches for. Say who signs it: %s",
				o, lineForm)
		case "check-valid-until", "check-date", "valid-until-max", "valid-until-min", "date-max-future":
			return fmt.Errorf("[%s] is refused: kimg holds every archive to its own dates", o)
		case "by-hash", "lang", "pdiffs", "target":
			return fmt.Errorf("[%s] is about how apt downloads, which kimg does in its own way: leave it out", o)
		default:
			return fmt.Errorf("[%s] is no option that kimg has: it has signed-by and arch", o)
		}
	}
	return nil
}

var fingerprints = regexp.MustCompile(`^(0x)?[0-9A-Fa-f]{16,40}!?$`)

// lineURL checks an address that becomes a part of the lock.
func lineURL(raw string) (string, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return "", fmt.Errorf("%q is no address: %w", raw, errors.Unwrap(err))
	case u.Scheme == "file" || u.Scheme == "copy":
		return "", fmt.Errorf("%q is a directory of this machine: serve it (python3 -m http.server --directory %s; "+
			"http://localhost:8000 is its address then), or include its .deb files", raw, cmp.Or(u.Path, u.Opaque))
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return "", fmt.Errorf("%q is no address that kimg reads: want http://HOST/PATH or https://HOST/PATH", raw)
	case u.User != nil:
		return "", errors.New("the address has a name or a password in it, which would be in the lock and in the " +
			"provenance: kimg reads archives that ask for none")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.RawFragment != "":
		return "", fmt.Errorf("%q has more than a host and a path: want http://HOST/PATH", raw)
	case slices.Contains(strings.Split(u.Path, "/"), ".."):
		return "", fmt.Errorf("%q leads out of itself: want http://HOST/PATH", raw)
	}
	return strings.TrimRight(u.String(), "/"), nil
}

func (l *Line) checkSuite() error {
	leaves := slices.Contains(strings.Split(l.Suite, "/"), "..")
	if l.flat() {
		switch {
		case leaves || !lineDirectory.MatchString(l.Suite):
			return fmt.Errorf("%q is no directory of an archive", l.Suite)
		case len(l.Components) > 0:
			return fmt.Errorf("an archive without dists/, as %q with its slash says, has no components: leave %s out",
				l.Suite, strings.Join(l.Components, " "))
		}
		return nil
	}
	if leaves || !lineSuite.MatchString(l.Suite) {
		return fmt.Errorf("%q is no suite", l.Suite)
	}
	if len(l.Components) == 0 {
		return fmt.Errorf("want components behind the suite %s, such as main", l.Suite)
	}
	for i, c := range l.Components {
		if !lineSuite.MatchString(c) || slices.Contains(strings.Split(c, "/"), "..") {
			return fmt.Errorf("%q is no component", c)
		}
		if slices.Contains(l.Components[:i], c) {
			return fmt.Errorf("the component %s is there twice", c)
		}
	}
	return nil
}

// flat says that the archive has no dists/: sources.list(5).
func (l Line) flat() bool { return strings.HasSuffix(l.Suite, "/") }

// ForArch reports why the line is not for an architecture, or nil.
func (l Line) ForArch(a arch.Arch) error {
	if servesArch(l.arches, a) {
		return nil
	}
	return fmt.Errorf("[arch=%s] leaves out %s, which the root filesystem is of", strings.Join(l.arches, ","), a.Name)
}

// Name tells the archive from others, in a lock and in messages.
func (l Line) Name() string { return l.URL + " " + l.Suite }

// InRelease is the address of what is signed.
func (l Line) InRelease() string { return l.URL + "/" + l.dir() + "InRelease" }

// String is the line as apt has it.
func (l Line) String() string {
	options := "signed-by=" + l.Key
	if len(l.arches) > 0 {
		options = "arch=" + strings.Join(l.arches, ",") + " " + options
	}
	return strings.Join(append([]string{"deb", "[" + options + "]", l.URL, l.Suite}, l.Components...), " ")
}

// dir is where its InRelease is, below URL.
func (l Line) dir() string {
	if !l.flat() {
		return "dists/" + l.Suite + "/"
	}
	return strings.TrimPrefix(strings.TrimPrefix(l.Suite, "."), "/")
}
