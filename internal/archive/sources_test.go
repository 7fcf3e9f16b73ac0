package archive

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/suite"
)

// host makes a root directory with the files below etc/apt.
func host(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, "etc", "apt", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestHostMirror(t *testing.T) {
	for name, c := range map[string]struct {
		files          map[string]string
		debian, ubuntu string
	}{
		"no apt": {nil, "", ""},
		"one line": {map[string]string{"sources.list": `
# deb http://commented.example.org/debian bookworm main
deb-src http://source.example.org/debian bookworm main
deb http://one.example.org/debian/ bookworm main contrib # the nearest
deb http://two.example.org/debian trixie main
`}, "http://one.example.org/debian", ""},
		"options": {map[string]string{"sources.list": `
deb [arch=arm64] http://arm.example.org/debian trixie main
deb [ signed-by=/x arch=amd64,i386 ] http://amd.example.org/debian trixie main
`}, "http://amd.example.org/debian", ""},
		"deb822": {map[string]string{"sources.list.d/debian.sources": `
# the old one
Types: deb
URIs: http://off.example.org/debian
Suites: trixie
Components: main
Enabled: no

Types: deb-src
URIs: http://source.example.org/debian
Suites: trixie
Components: main

Types: deb deb-src
# uris follow
URIs: http://first.example.org/debian
 http://second.example.org/debian
suites: trixie-updates
 trixie
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEY865UxYJ
 -----END PGP PUBLIC KEY BLOCK-----
`}, "http://first.example.org/debian", ""},
		"only what is not an archive of the family": {map[string]string{"sources.list": `
deb http://security.example.org/debian-security trixie-security main
deb http://updates.example.org/debian trixie-updates main
deb http://contrib.example.org/debian trixie contrib
deb http://third.example.org/docker trixie main
deb http://flat.example.org/debian ./
deb cdrom:[Debian GNU/Linux 13]/debian trixie main
deb file:/srv/debian trixie main
deb
deb [
`}, "", ""},
		"ubuntu": {map[string]string{
			"sources.list": "deb http://ppa.example.org/someone/ubuntu-tools jammy main\n",
			"sources.list.d/ubuntu.sources": "Types: deb\nURIs: http://de.archive.example.org/ubuntu/\n" +
				"Suites: noble noble-updates\nComponents: main universe\n",
		}, "", "http://de.archive.example.org/ubuntu"},
		"a snapshot": {map[string]string{"sources.list": "deb [check-valid-until=no] " +
			"http://snapshot.debian.org/archive/debian/20250101T000000Z/ bookworm main\n"},
			"http://snapshot.debian.org/archive/debian/20250101T000000Z", ""},
		"other names of files": {map[string]string{
			"sources.list.d/a.list.save": "deb http://saved.example.org/debian trixie main\n",
			"sources.list.d/b.sources.bak": "Types: deb\nURIs: http://bak.example.org/debian\n" +
				"Suites: trixie\nComponents: main\n",
			"sources.list.d/z-debian.list":  "deb http://z.example.org/debian stable main\n",
			"sources.list.d/broken.sources": "no field here\n",
		}, "http://z.example.org/debian", ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := host(t, c.files)
			for family, want := range map[*suite.Family]string{suite.Debian: c.debian, suite.Ubuntu: c.ubuntu} {
				m, ok := MirrorQuery{Root: root, Family: family, Arch: arch.AMD64}.hostMirror()
				if ok != (want != "") || m.URL != want {
					t.Errorf("%s: %+v, %v, want %q", family, m, ok, want)
				}
				if ok && !strings.HasPrefix(m.From, "/etc/apt/") {
					t.Errorf("it is said to be from %q", m.From)
				}
			}
		})
	}
}

func TestResolveMirrorOrder(t *testing.T) {
	t.Setenv("KIMG_MIRROR", "")
	t.Setenv("KIMG_UBUNTU_MIRROR", "http://env.example.org/ubuntu")
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("east", 3600))
	empty := host(t, nil)
	configured := host(t, map[string]string{"sources.list": "deb http://host.example.org/debian sid main\n"})
	check := func(root string, family *suite.Family, flag, wantURL, wantFrom string) {
		t.Helper()
		m, err := MirrorQuery{root, family, arch.AMD64, flag, at}.Resolve()
		if err != nil || m.URL != wantURL || m.From != wantFrom {
			t.Errorf("%+v, %v, want %s from %s", m, err, wantURL, wantFrom)
		}
	}
	check(empty, suite.Debian, "", "https://snapshot.debian.org/archive/debian/20260102T020405Z",
		"the snapshot service")
	check(configured, suite.Debian, "", "http://host.example.org/debian", "/etc/apt/sources.list")
	check(configured, suite.Ubuntu, "", "http://env.example.org/ubuntu", "KIMG_UBUNTU_MIRROR")
	ports := host(t, map[string]string{"sources.list": "deb http://main.example.org/ubuntu noble main\n" +
		"deb http://ports.example.org/ubuntu-ports noble main\n"})
	checkPorts := func(root, wantURL, wantFrom string) {
		t.Helper()
		m, err := MirrorQuery{root, suite.Ubuntu, arch.RISCV64, "", at}.Resolve()
		if err != nil || m.URL != wantURL || m.From != wantFrom {
			t.Errorf("of ports: %+v, %v, want %s from %s", m, err, wantURL, wantFrom)
		}
	}
	checkPorts(ports, "http://ports.example.org/ubuntu-ports", "/etc/apt/sources.list")
	checkPorts(empty, "https://snapshot.ubuntu.com/ubuntu/20260102T020405Z", "the snapshot service")
	t.Setenv("KIMG_UBUNTU_PORTS_MIRROR", "http://env.example.org/ubuntu-ports")
	checkPorts(ports, "http://env.example.org/ubuntu-ports", "KIMG_UBUNTU_PORTS_MIRROR")
	t.Setenv("KIMG_UBUNTU_MIRROR", "")
	check(ports, suite.Ubuntu, "", "http://main.example.org/ubuntu", "/etc/apt/sources.list")
	t.Setenv("KIMG_MIRROR", "http://env.example.org/debian/")
	check(configured, suite.Debian, "", "http://env.example.org/debian", "KIMG_MIRROR")
	check(configured, suite.Debian, "https://flag.example.org/debian", "https://flag.example.org/debian", "--mirror")
	for _, bad := range []string{"ftp://x/debian", "not a url", "http://", "http://[::1", "/srv/debian"} {
		if _, err := (MirrorQuery{configured, suite.Debian, arch.AMD64, bad, at}).Resolve(); err == nil ||
			!strings.Contains(err.Error(), "--mirror") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestAptConf(t *testing.T) {
	root := host(t, map[string]string{
		"apt.conf.d/10first": `// a comment; with { signs
Acquire::Check-Valid-Until "true";
Acquire { http { Proxy "http://wrong.example.org:1/"; proxy::direct.example.org "DIRECT"; };
	/* http { Proxy "no"; } */ };
# APT::x
APT::List { "one"; "two"; };`,
		"apt.conf.d/20second": "acquire::http::proxy \"http://proxy.example.org:3128/\"; " +
			"Acquire::Check-Valid-Until off;",
		"apt.conf.d/30third.bak":  `Acquire::http::Proxy "http://bak.example.org/";`,
		"apt.conf.d/40open.conf":  `Acquire { https { Proxy "http://open.example.org/"`,
		"apt.conf.d/50brace.conf": `}; } "x" ; {`,
	})
	conf := readAptConf(root)
	for url, proxy := range map[string]string{
		"http://deb.example.org/debian":        "http://proxy.example.org:3128/",
		"http://direct.example.org:80/debian":  "DIRECT",
		"https://deb.example.org/debian":       "",
		"http://unlike-direct.example.org/deb": "http://proxy.example.org:3128/",
	} {
		m := conf.mirror(url, "")
		if m.Proxy != proxy || !m.AllowExpired {
			t.Errorf("%s: %+v, want proxy %q", url, m, proxy)
		}
	}
	if m := readAptConf(t.TempDir()).mirror("http://x/debian", ""); m.AllowExpired || m.Proxy != "" {
		t.Errorf("without apt: %+v", m)
	}
}

func FuzzAptFiles(f *testing.F) {
	f.Add("deb [arch=amd64] http://x/debian trixie main\n")
	f.Add("Types: deb\nURIs: http://x/debian\nSuites: trixie\nComponents: main\n\nEnabled: no")
	f.Add("Acquire { http::Proxy \"x\"; }; // y\n/* z")
	f.Add("-----BEGIN PGP SIGNED MESSAGE-----\n\nTypes: deb\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, src := range append(parseSourcesList([]byte(text), arch.AMD64),
			parseSources([]byte(text), arch.AMD64)...) {
			if src.uri == "" || src.suite == "" {
				t.Errorf("a source of nothing: %+v", src)
			}
		}
		make(aptConf).parse(text)
	})
}
