package archive

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/suite"
	"github.com/kimg/kimg/internal/units"
)

// put3 puts a file of the other archive of a mirror in place.
func (m *mirror) put3(path string, b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files["/tools/"+path] = b
}

// tools publishes lists, by their names in the InRelease, as an archive of its own with the suite "stable".
func (m *mirror) tools(t testing.TB, lists map[string]string, extra ...string) {
	t.Helper()
	m.put3("dists/stable/InRelease", signed(t, m.toolsRelease(t, "dists/stable/", lists, extra...), m.key))
}

func (m *mirror) toolsRelease(t testing.TB, dir string, lists map[string]string, extra ...string) string {
	t.Helper()
	text := "Origin: Tools Inc\nDate: Mon, 15 Jun 2026 10:00:00 UTC\n"
	for _, f := range extra {
		text += f + "\n"
	}
	text += "SHA256:\n"
	for name, list := range lists {
		b := []byte(list)
		switch {
		case strings.HasSuffix(name, ".xz"):
			b = packXZ(t, list)
		case strings.HasSuffix(name, ".gz"):
			b = packGZ(t, list)
		}
		m.put3(dir+strings.TrimPrefix(name, "./"), b)
		text += fmt.Sprintf(" %s %d %s\n", units.DigestOf(b), len(b), name)
	}
	return text
}

func (m *mirror) line(rest string) Line {
	f := strings.Fields(rest)
	return Line{URL: m.URL + "/tools", Suite: f[0], Components: f[1:], Key: "k"}
}

// more reads it.
func (m *mirror) more(t testing.TB, line string) (*Release, *Index, error) {
	t.Helper()
	c := m.client(t)
	c.Mirror = Mirror{URL: m.URL + "/tools"}
	return c.More(t.Context(), m.line(line))
}

func TestMore(t *testing.T) {
	one := map[string]string{
		"main/binary-amd64/Packages.xz": stanza("a"), "main/binary-all/Packages": stanza("d", "X: y"),
		"extra/binary-amd64/Packages.gz": stanza("b"), "extra/binary-arm64/Packages": stanza("c"),
	}
	for name, c := range map[string]struct {
		line   string
		lists  map[string]string
		fields []string
		want   string
	}{
		"a component":    {"stable main", one, []string{"Suite: stable"}, "a"},
		"by its code":    {"stable main", one, []string{"Suite: x", "Codename: stable"}, "a"},
		"unnamed":        {"stable main", one, nil, "a"},
		"two components": {"stable main extra", one, nil, "a b"},
		"and those of all": {"stable main", one, []string{"Architectures: all amd64"},
			"a d"},
		"which are in the lists": {"stable main", one, []string{"Architectures: all amd64",
			"No-Support-for-Architecture-all: Packages"}, "a"},
		"dated as apt-ftparchive does": {"stable main", one, []string{"Date: Mon, 15 Jun 2026 10:00:00 +0000",
			"Valid-Until: Mon, 22 Jun 2026 10:00:00 +0000"}, "a"},
		"an empty one": {"stable main", map[string]string{"main/binary-amd64/Packages": ""}, nil, ""},
	} {
		m := newMirror(t)
		m.tools(t, c.lists, c.fields...)
		rel, x, err := m.more(t, c.line)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := names(x.packages); got != c.want || rel.Origin != "Tools Inc" || len(rel.SignedBy) != 1 {
			t.Errorf("%s: %s, %+v, want %s", name, got, rel, c.want)
		}
		for _, p := range x.packages {
			if p.From != m.URL+"/tools stable" {
				t.Errorf("%s: %s is from %q", name, p.Name, p.From)
			}
		}
	}
}

// TestMoreFlat is of archives without dists/, as dpkg-scanpackages makes them.
func TestMoreFlat(t *testing.T) {
	foreign := strings.Replace(stanza("c"), "Architecture: amd64", "Architecture: arm64", 1)
	here := strings.Replace(stanza("a"), "Filename: pool/", "Filename: ./", 1)
	for line, dir := range map[string]string{"./": "", "/": "", "sub/dir/": "sub/dir/"} {
		m := newMirror(t)
		text := m.toolsRelease(t, dir, map[string]string{"./Packages.gz": here + foreign})
		m.put3(dir+"InRelease", signed(t, text, m.key))
		_, x, err := m.more(t, line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if got := names(x.packages); got != "a" || names(x.foreign) != "c" {
			t.Errorf("%s: %s, and of others %s", line, got, names(x.foreign))
		}
		m.put3("a_1_amd64.deb", debOf("a", "1"))
		c := m.client(t)
		c.Mirror = Mirror{URL: m.URL + "/tools"}
		if err := c.Fetch(t.Context(), suite.Suite{}, []Locked{x.packages[0].Locked()}, today, nil); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestMoreRefuses(t *testing.T) {
	good := map[string]string{"main/binary-amd64/Packages.xz": stanza("a"), "main/binary-arm64/Packages.xz": "",
		"main/debian-installer/binary-amd64/Packages.xz": "", "contrib/binary-arm64/Packages": "",
		"all/binary-all/Packages": ""}
	stranger := newKey(t, "stranger", 0)
	expired := newKey(t, "expired", 3600)
	for name, c := range map[string]struct {
		publish func(*mirror)
		line    string
		says    string
		hint    string
	}{
		"no such suite": {func(m *mirror) {}, "stable main", "it has no such suite", "/tools/dists/ for the suites"},
		"no flat one":   {func(m *mirror) {}, "./", "404", "an archive without dists/"},
		"a Release beside a signature": {func(m *mirror) { m.put3("dists/stable/Release", []byte("x")) }, "stable main",
			"no InRelease", "check the line"},
		"another key": {func(m *mirror) {
			m.put3("dists/stable/InRelease", signed(t, m.toolsRelease(t, "dists/stable/", good), stranger))
		}, "stable main", "which may not sign it; these may: ", "ask the archive's owner"},
		"an expired key": {func(m *mirror) {
			m.key = expired
			m.tools(t, good)
		}, "stable main", "has expired", "ask the archive's owner"},
		"a page": {func(m *mirror) { m.put3("dists/stable/InRelease", []byte("<html>log in")) }, "stable main",
			"it is a web page: \"<html>log in", "in a browser"},
		"of a day to come": {func(m *mirror) {
			text := m.toolsRelease(t, "dists/stable/", good)
			text = strings.Replace(text, "Mon, 15 Jun 2026", "Thu, 31 Dec 2026", 1)
			m.put3("dists/stable/InRelease", signed(t, text, m.key))
		}, "stable main", "it is not valid yet: it is of Thu, 31 Dec 2026", "clock"},
		"not signed": {func(m *mirror) {
			m.put3("dists/stable/InRelease", []byte(m.toolsRelease(t, "dists/stable/", good)))
		}, "stable main", "does not begin as a clear-signed", "owner"},
		"out of date": {func(m *mirror) { m.tools(t, good, "Valid-Until: Sun, 14 Jun 2026 10:00:00 UTC") },
			"stable main", "it was valid until Sun, 14 Jun 2026", "renew it"},
		"another suite's": {func(m *mirror) { m.tools(t, good, "Suite: testing", "Codename: next") }, "stable main",
			`it is that of "testing" (codename "next")`, "write the suite"},
		"no component": {func(m *mirror) { m.tools(t, good) }, "stable non-free",
			`it has no component "non-free": it has all, contrib, main`, ""},
		"no architecture": {func(m *mirror) { m.tools(t, good) }, "stable contrib",
			"its component contrib has no packages of amd64: it has those of arm64", ""},
		"no lists": {func(m *mirror) { m.tools(t, map[string]string{"main/Contents": ""}) }, "stable main",
			"lists no Packages", ""},
		"a list of another": {func(m *mirror) {
			m.tools(t, good)
			m.put3("dists/stable/main/binary-amd64/Packages.xz", packXZ(t, stanza("b")))
		}, "stable main", "not the file that was asked for", ""},
		"a huge list": {func(m *mirror) {
			text := m.toolsRelease(t, "dists/stable/", good) +
				fmt.Sprintf(" %s %d main/binary-amd64/Packages\n", units.DigestOf(nil), int64(1)<<30)
			m.put3("dists/stable/InRelease", signed(t, text, m.key))
		}, "stable main", "has 1073741824 bytes, by its InRelease, and kimg reads 268435456 at most", ""},
		"a bomb": {func(m *mirror) {
			zeros := packXZ(t, strings.Repeat("Depends: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n", 1<<23/59))
			m.put3("dists/stable/main/binary-amd64/Packages.xz", zeros)
			text := m.toolsRelease(t, "dists/stable/", nil) +
				fmt.Sprintf(" %s %d main/binary-amd64/Packages.xz\n", units.DigestOf(zeros), len(zeros)) +
				fmt.Sprintf(" %s %d main/binary-amd64/Packages\n", units.DigestOf(nil), 1<<20)
			m.put3("dists/stable/InRelease", signed(t, text, m.key))
		}, "stable main", "larger than the 1048576 bytes", ""},
		"a way out": {func(m *mirror) {
			m.tools(t, map[string]string{"main/binary-amd64/Packages": stanza("x", "Filename: a/../../etc/passwd")})
		}, "stable main", "not one below the archive", ""},
		"a size": {func(m *mirror) {
			m.tools(t, map[string]string{"main/binary-amd64/Packages": stanza("x", "Size: 99999999999999")})
		}, "stable main", "more than the 8589934592", ""},
		"a name of two lines": {func(m *mirror) {
			list := strings.Replace(stanza("z"), "Package: z\n", "Package: z\n z\n", 1)
			m.tools(t, map[string]string{"main/binary-amd64/Packages": list})
		}, "stable main", "bad one", ""},
		"a list elsewhere": {func(m *mirror) {
			m.tools(t, good)
			m.away = "file:///etc/passwd"
		}, "stable main", "unsupported protocol scheme", ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMirror(t)
			c.publish(m)
			_, _, err := m.more(t, c.line)
			var refused *LineError
			if !errors.As(err, &refused) || !strings.Contains(err.Error(), c.says) ||
				!strings.Contains(err.Error(), "use archive "+m.URL+"/tools ") ||
				!strings.Contains(refused.Hint(), c.hint) {
				t.Errorf("%v, want it to say %q, and to hint at %q", err, c.says, c.hint)
			}
		})
	}
}

func TestKeys(t *testing.T) {
	e := newKey(t, "owner", 0)
	var private, public strings.Builder
	if err := e.SerializePrivate(&private, nil); err != nil {
		t.Fatal(err)
	}
	if err := e.Serialize(&public); err != nil {
		t.Fatal(err)
	}
	if k, err := Keys([]byte(public.String())); err != nil || len(k.Fingerprints()) != 1 {
		t.Errorf("%v, %v", k, err)
	}
	for text, says := range map[string]string{
		private.String(): "a private key in it, which would be in the lock",
		"":               "want public keys", "<html>": "want public keys",
		"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nxx\n-----END PGP PRIVATE KEY BLOCK-----\n": "a private key in it",
	} {
		if _, err := Keys([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.30q: %v", text, err)
		}
	}
}

// from gives an index's packages an origin.
func from(name string, x *Index) *Index {
	for i := range x.packages {
		x.packages[i].From = name
	}
	return x
}

func file(t *testing.T, nameVersion string, extra ...string) File {
	t.Helper()
	p, err := FromControl(strings.TrimSpace(stanza(nameVersion, extra...)), 7, units.DigestOf([]byte(nameVersion)))
	if err != nil {
		t.Fatal(err)
	}
	return File{Package: p, Path: "./" + p.Name + ".deb"}
}

func TestJoin(t *testing.T) {
	own := []string{
		stanza("dpkg 1", "Priority: required", "Depends: libc"), stanza("libc 2"), stanza("apt 1"),
		stanza("tool 1", "Depends: libold"), stanza("libold 1"), stanza("libnew 1"), stanza("same 1"),
		stanza("other-mta 1", "Provides: mta"), stanza("bare 1"),
	}
	tools := []string{
		stanza("tool 2", "Depends: libnew"), stanza("same 1", "Depends: libnew"),
		stanza("only 1", "Depends: tool (>= 2)"),
		stanza("evil 1", "Priority: required", "Essential: yes"), stanza("needs 1", "Depends: libc (>= 3)"),
		stanza("libc 1.9"), stanza("mailer 1", "Depends: nothing | mta"), stanza("quarrel 1", "Conflicts: apt"),
		stanza("twice 1"), strings.Replace(stanza("twice 1"), "SHA256: ", "SHA256: "+strings.Repeat("0", 64)+"\nX: ",
			1),
		stanza("later 2"),
	}
	late := []string{stanza("tool 9"), stanza("later 9"), stanza("backport 9")}
	for name, c := range map[string]struct {
		files   []File
		include string
		want    string // of the base, with versions
		says    string
	}{
		"nothing":        {nil, "", "apt=1", ""},
		"the newest":     {nil, "tool", "apt=1 libnew=1 tool=2", ""},
		"of one version": {nil, "same", "apt=1 same=1", ""},
		"a newer one":    {nil, "only", "apt=1 libnew=1 only=1 tool=2", ""},
		"backports":      {nil, "backport later", "apt=1 backport=9 later=2", ""},
		"what provides":  {nil, "mailer", "apt=1 mailer=1 other-mta=1", ""},
		"a dependency's version": {nil, "needs", "",
			"install needs: it depends on libc (>= 3), which the suite does not have (libc is 2)"},
		"a conflict": {nil, "quarrel", "", "quarrel excludes apt"},
		"twice":      {nil, "twice", "", "lists its version 1 twice, with two contents"},
		"a file": {[]File{file(t, "mine 1", "Depends: only, mta")}, "",
			"apt=1 libnew=1 mine=1 only=1 other-mta=1 tool=2", ""},
		"a newer file": {[]File{file(t, "tool 3")}, "", "apt=1 tool=3", ""},
		"the same":     {[]File{file(t, "tool 2")}, "", "apt=1 tool=2", ""},
		"older": {[]File{file(t, "libnew 0.9")}, "", "",
			"./libnew.deb: it is libnew 0.9, and the suite has the newer 1"},
		"older than another's": {[]File{file(t, "tool 1.5")}, "", "", "and the archive tools has the newer 2"},
		"two":                  {[]File{file(t, "mine 1"), file(t, "mine 2")}, "", "", "as ./mine.deb is"},
		"a required one":       {[]File{file(t, "dpkg 2", "Depends: bare")}, "", "apt=1", ""},
		"lost": {[]File{file(t, "mine 1", "Depends: nowhere (>= 1)")}, "", "",
			"install mine: it depends on nowhere (>= 1), which the suite does not have, nor any other archive"},
	} {
		other := from("tools", indexOf(t, tools...))
		back := from("back", indexOf(t, late...))
		back.late = true
		x, err := Join(indexOf(t, own...), c.files, other, back)
		var b Bootstrap
		if err == nil {
			include := strings.Fields(c.include)
			for _, f := range c.files {
				include = append(include, f.Name)
			}
			b, err = x.Closure(ClosureSpec{trixie(t), Minbase, include})
		}
		if c.says != "" {
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v, want it to say %s", name, err, c.says)
			}
			continue
		}
		var got []string
		for _, p := range b.Base {
			got = append(got, p.Name+"="+p.Version)
		}
		required := "dpkg libc"
		if name == "a required one" {
			required = "bare dpkg"
		}
		if err != nil || strings.Join(got, " ") != c.want || names(b.Required) != required {
			t.Errorf("%s: %s, %v; required %s, %v", name, got, err, names(b.Required), err)
		}
	}
	foreign := file(t, "mine 1")
	foreign.Arch = "arm64"
	if _, err := Join(indexOf(t, own...), []File{foreign}); err == nil ||
		err.Error() != "include ./mine.deb: it is of arm64, and the root filesystem of amd64" {
		t.Errorf("another architecture's: %v", err)
	}
}

func TestForeignName(t *testing.T) {
	other := from("tools", indexOf(t))
	other.foreign = []Package{{Name: "x", Arch: "arm64", From: "http://h stable"}}
	x, err := Join(indexOf(t, stanza("dpkg", "Priority: required"), stanza("apt")), nil, other)
	if err != nil {
		t.Fatal(err)
	}
	_, err = x.Closure(ClosureSpec{trixie(t), Minbase, []string{"x"}})
	if err == nil || !strings.Contains(err.Error(), "the archive http://h stable has it for arm64, and not for amd64") {
		t.Errorf("%v", err)
	}
}

func TestElsewhere(t *testing.T) {
	m := newMirror(t)
	m.publish(t, stanza("a"))
	text := m.release(stanza("a"))
	for component, list := range map[string]string{"non-free": stanza("x") + stanza("y"), "contrib": stanza("z")} {
		b := packXZ(t, list)
		name := component + "/binary-amd64/Packages.xz"
		m.put("dists/trixie/"+name, b)
		text += fmt.Sprintf(" %s %d %s\n", units.DigestOf(b), len(b), name)
	}
	m.put("dists/trixie/InRelease", signed(t, text, m.key))
	c := m.client(t)
	rel, err := c.Release(t.Context(), trixie(t))
	if err != nil {
		t.Fatal(err)
	}
	x, err := c.Index(t.Context(), rel, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := m.countAsked("Packages.xz"); n != 1 {
		t.Errorf("%d lists were read before a name was missing", n)
	}
	_, err = x.sorted(map[string]bool{"x": true, "z": true, "nowhere": true})
	var unknown *UnknownError
	if !errors.As(err, &unknown) {
		t.Fatal(err)
	}
	unknown.Found(x, c.Elsewhere(t.Context(), rel, x, unknown.Names))
	want := `find packages: the suite has no package "nowhere" in main; ` +
		`"x" is in the suite's component non-free, and only main is read; ` +
		`"z" is in the suite's component contrib, and only main is read`
	if err.Error() != want || unknown.Hint() != "--components main,non-free,contrib (components: in kimg.yaml) reads "+
		"it as well" {
		t.Errorf("%v\n%s", err, unknown.Hint())
	}
	if x, err = c.Index(t.Context(), rel, []string{"main", "contrib"}); err != nil || names(x.packages) != "a z" {
		t.Errorf("%v", err)
	}
	if _, err = c.Index(t.Context(), rel, []string{"main", "nonfree"}); err == nil ||
		!strings.Contains(err.Error(), `it has no component "nonfree": it has contrib, main, non-free`) {
		t.Errorf("%v", err)
	}
}

func TestSortComponents(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "main": "", "main main": "", "contrib main": "main contrib",
		"non-free main contrib": "main contrib non-free",
	} {
		if got := strings.Join(SortComponents(suite.Debian, strings.Fields(in)), " "); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	if got := SortComponents(suite.Ubuntu, []string{"universe", "main"}); got != nil {
		t.Errorf("Ubuntu's own: %s", got)
	}
	for list, says := range map[string]string{"contrib": "want main among them", "main,x y": "is no component",
		"main,../x": "is no component", "": ""} {
		err := CheckComponents(strings.FieldsFunc(list, func(r rune) bool { return r == ',' }))
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v", list, err)
		}
	}
}

// TestMissingOfMore is of a package that an archive without a snapshot service no longer has.
func TestMissingOfMore(t *testing.T) {
	m := newMirror(t)
	c := m.client(t)
	c.Mirror = Mirror{URL: m.URL + "/tools"}
	p := file(t, "a 1").Package.Locked()
	err := c.Fetch(t.Context(), suite.Suite{}, []Locked{p}, today, nil)
	var gone *MissingError
	if !errors.As(err, &gone) || !strings.Contains(gone.Hint(), "owner") ||
		err.Error() != "a package is gone from "+m.URL+"/tools\n  a 1 ("+m.URL+"/tools/"+p.Filename+")" {
		t.Errorf("%v", err)
	}
	for _, path := range m.asked {
		if strings.Contains(path, "snapshot") {
			t.Errorf("asked for %s", path)
		}
	}
}
