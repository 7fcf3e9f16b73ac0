package kernelorg

import (
	"strings"
	"testing"
)

var someDigest = strings.Repeat("ab", 32)

func TestParseSumsRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":        "\n\n",
		"a page":         "<html><body>log in</body></html>",
		"no name":        someDigest + "  \n",
		"one blank":      someDigest + " linux-4.0.tar.xz\n",
		"a short digest": someDigest[2:] + "  linux-4.0.tar.xz\n",
		"a path":         someDigest + "  ../linux-4.0.tar.xz\n",
		"a blank in it":  someDigest + "  linux 4.0.tar.xz\n",
		"two digests":    someDigest + "  a\n" + strings.Repeat("cd", 32) + "  a\n",
	} {
		if list, err := parseSums([]byte(text)); err == nil {
			t.Errorf("%s: %v", name, list)
		}
	}
}

func FuzzParseSums(f *testing.F) {
	f.Add([]byte(someDigest + "  linux-4.0.tar.xz\n" + someDigest + " *a\r\n\n"))
	f.Add([]byte("<html>"))
	f.Add([]byte(someDigest + "  a\n" + strings.Repeat("cd", 32) + "  a\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := parseSums(text)
		if err != nil {
			return
		}
		for name, d := range list {
			if name == "" || strings.ContainsAny(name, "/ \n\r\t\x00") || len(d) != 64 ||
				!strings.Contains(strings.ToLower(string(text)), string(d)) {
				t.Errorf("%q: %s", name, d)
			}
			_, _ = tarballVersion(name)
		}
	})
}
