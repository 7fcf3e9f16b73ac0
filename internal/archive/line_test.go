package archive

import (
	"slices"
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/arch"
)

func TestParseLine(t *testing.T) {
	for text, want := range map[string]Line{
		"deb [signed-by=/k.asc] https://example.org/debian stable main": {
			URL: "https://example.org/debian", Suite: "stable", Components: []string{"main"}, Key: "/k.asc"},
		" deb\t[ arch=amd64,arm64  signed-by=k.gpg ]  http://h:8080/a/b/  trixie/updates   main  non-free ": {
			URL: "http://h:8080/a/b", Suite: "trixie/updates", Components: []string{"main", "non-free"}, Key: "k.gpg"},
		`deb [ arch=amd64 signed-by="/a.asc,/b.gpg" ]http://h s main # of the vendor`: {
			URL: "http://h", Suite: "s", Components: []string{"main"}, Key: "/a.asc,/b.gpg"},
		"deb [signed-by=~/k] http://h ./":      {URL: "http://h", Suite: "./", Key: "~/k"},
		"deb [signed-by=k] http://h /":         {URL: "http://h", Suite: "/", Key: "k"},
		"deb [signed-by=k] http://h/x pool/d/": {URL: "http://h/x", Suite: "pool/d/", Key: "k"},
		"deb [signed-by=k] http://h trixie main/debug": {
			URL: "http://h", Suite: "trixie", Components: []string{"main/debug"}, Key: "k"},
	} {
		got, err := ParseLine(text)
		if err != nil || got.URL != want.URL || got.Suite != want.Suite || got.Key != want.Key ||
			!slices.Equal(got.Components, want.Components) {
			t.Errorf("%s: %+v, %v", text, got, err)
			continue
		}
		if again, err := ParseLine(got.String()); err != nil || again.String() != got.String() {
			t.Errorf("%s is written as %s: %v", text, got, err)
		}
		if err := got.ForArch(arch.AMD64); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	l, err := ParseLine("deb [arch=armhf,i386 signed-by=k] http://h s main")
	if err != nil || l.ForArch(arch.AMD64) == nil ||
		l.ForArch(arch.AMD64).Error() != "[arch=armhf,i386] leaves out amd64, which the root filesystem is of" {
		t.Errorf("another architecture's: %v, %v", err, l.ForArch(arch.AMD64))
	}
}

func TestParseLineRefuses(t *testing.T) {
	const key = "deb [signed-by=k] "
	for text, says := range map[string]string{
		"":                                      "is no archive: want 'deb [signed-by=KEY] URL SUITE COMPONENT...",
		"debian":                                `"debian" is no archive`,
		"deb":                                   "who signs it",
		"http://h trixie main":                  "is no archive",
		"deb http://h trixie main":              "who signs it",
		"deb [signed-by=] http://h trixie main": "who signs it",
		"deb [signed-by=k http://h trixie main": "no ] at their end",
		"deb-src [signed-by=k] http://h s main": "deb-src names sources",
		"deb [trusted=yes] http://h s main":     "[trusted=yes] is refused: kimg takes no package that nobody vouches",
		"deb [signed-by=k trusted=yes] http://h s main":          "[trusted=yes] is refused",
		"deb [signed-by=k allow-insecure=yes] http://h s main":   "is refused",
		"deb [signed-by=k check-valid-until=no] http://h s main": "its own dates",
		"deb [signed-by=k by-hash=no] http://h s main": "" +
			"[by-hash=no] is about how apt downloads",
		"deb [signed-by=k arch+=i386] http://h s main": "" +
			"[arch+=i386] is no option that kimg has",
		"deb [signed-by=a signed-by=b] http://h s main": "" +
			"as in [signed-by=a,b]",
		"deb [signed-by=k,A4285295FC7B1A81600062A9605C66F00D6C9793] http://h s main": "" +
			"is a fingerprint",
		"# deb [signed-by=k] http://h s main": "" +
			"leave the # out",
		"deb [arch=$(dpkg --print-architecture) signed-by=k] http://h s main": "" +
			"$(dpkg --print-architecture) is for a shell",
		`deb [signed-by=k] http://h $(. /etc/os-release && echo "$X") stable`: "" +
			"echo \"$X\") is for",
		"deb [signed-by=k] http://h ${VERSION_CODENAME} main": "" +
			"${VERSION_CODENAME} is for a shell",
		"deb [signed-by=A4285295FC7B1A81600062A9605C66F00D6C9793] http://h s main": "is a fingerprint",
		key + "http://h":                    "want 'deb [signed-by=KEY]",
		key + "http://h trixie":             "want components behind the suite trixie, such as main",
		key + "http://h trixie main main":   "main is there twice",
		key + "http://h ../x main":          `"../x" is no suite`,
		key + "http://h x/../y main":        `"x/../y" is no suite`,
		key + "http://h trixie ../main":     `"../main" is no component`,
		key + "http://h ../":                `"../" is no directory`,
		key + "http://h x/../":              `"x/../" is no directory`,
		key + "http://h ./ main":            "has no components: leave main out",
		key + "http://h $(ARCH)/":           "$(ARCH) is for a shell",
		key + "file:/srv/debian s main":     "(python3 -m http.server --directory /srv/debian;",
		key + "file:///srv/debian s main":   "or include its .deb files",
		key + "cdrom:[x] s main":            "want http://HOST/PATH",
		key + "http:/h s main":              "want http://HOST/PATH",
		key + "http://u:p@h s main":         "would be in the lock",
		key + "http://h/?x=y s main":        "more than a host and a path",
		key + "http://h/a/../b s main":      "leads out of itself",
		key + "http://h/%2e%2e/b s main":    "leads out of itself",
		"/etc/apt/sources.list.d/x.sources": "is a file of apt's: want a line",
		"ppa:owner/name":                    "https://ppa.launchpadcontent.net/OWNER/NAME/ubuntu",
		"Types: deb\nURIs: http://h/x\nSuites: a b\nComponents: main extra\nSigned-By: /k.asc\n": "want one line, " +
			"and not the deb822 form: 'deb [signed-by=/k.asc] http://h/x a main extra' and " +
			"'deb [signed-by=/k.asc] http://h/x b main extra'",
		"Types: deb\nURIs: http://h\nSuites: ./\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n xx\n": "" +
			"'deb [signed-by=KEY] http://h ./'",
		"Types: deb": "not the deb822 form: 'deb [signed-by=KEY]",
	} {
		if _, err := ParseLine(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want it to say %s", text, err, says)
		}
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add("deb [signed-by=/k.asc] https://example.org/debian stable main")
	f.Add("deb [arch=amd64 signed-by=k] http://h ./")
	f.Add("Types: deb\nURIs: x\nSuites: y\n")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := ParseLine(text)
		if err != nil {
			return
		}
		again, err := ParseLine(l.String())
		if err != nil || again.Name() != l.Name() || again.Key != l.Key {
			t.Errorf("%q is written as %q, which is %+v, %v", text, l, again, err)
		}
		if strings.Contains(l.InRelease(), "/../") || strings.ContainsAny(l.Name(), "\n\t") {
			t.Errorf("%q leads to %s", text, l.InRelease())
		}
	})
}
