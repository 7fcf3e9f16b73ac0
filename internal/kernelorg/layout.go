package kernelorg

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/kimg/kimg/internal/units"
)

// layout is the URL of the directory that v4.x, v5.x and so on are in.
func layout(base string) (string, error) {
	if base == "" {
		base = DefaultBase
	}
	u, err := parseURL(base)
	if err != nil {
		return "", fmt.Errorf("read kernel mirror: %w", err)
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("read kernel mirror: %q has more than a path behind its host: want a URL such as %s",
			base, DefaultBase)
	}
	u = u.JoinPath("/")
	if path.Base(u.Path) != "kernel" {
		u = u.JoinPath("pub/linux/kernel")
	}
	return strings.TrimSuffix(u.String(), "/"), nil
}

// CheckBase checks a Client's Base.
func CheckBase(base string) error {
	_, err := layout(base)
	return err
}

func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is not a URL that kimg can fetch: want https://host/path", s)
	}
	return u, nil
}

// fourth is the fourth number of old versions: the .61 of 2.6.32.61.
var fourth = regexp.MustCompile(`^\.\d+$`)

// dirs are the directories that may hold the version, in the order to look. Release candidates have had no tarballs
// there since 2017, only snapshots that git makes (https://www.kernel.org/category/releases.html); mirrors that
// kept the older ones have them in testing/.
func dirs(v units.KernelVersion) []string {
	dir := fmt.Sprintf("v%d.x", v.Major)
	if v.Major < 3 {
		dir = fmt.Sprintf("v%d.%d", v.Major, v.Minor)
	}
	if v.RC > 0 {
		return []string{dir, dir + "/testing"}
	}
	return []string{dir}
}

// checkVersion refuses versions that kernel.org cannot have.
func checkVersion(v units.KernelVersion) error {
	if v.Extra == "" || v.Major == 2 && v.RC == 0 && fourth.MatchString(v.Extra) {
		return nil
	}
	plain := v
	plain.Extra = ""
	return &NotFoundError{
		URL: "linux-" + v.String(), Why: fmt.Sprintf("kernel.org has no versions that end in %q", v.Extra),
		hint: fmt.Sprintf("ask for %s, or name a directory, a tarball or the URL of one", plain),
	}
}
