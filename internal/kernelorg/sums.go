package kernelorg

import (
	"fmt"
	"strings"

	"github.com/kimg/kimg/internal/units"
)

// sums is a list of digests, by file name.
type sums map[string]units.Digest

// parseSums reads the text of a sha256sums.asc: lines of sha256sum(1), a digest,
// two blanks (or a blank and a star) and a name.
func parseSums(text []byte) (sums, error) {
	list := make(sums)
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			continue
		}
		digest, name, ok := strings.Cut(line, " ")
		if !ok || len(name) < 2 || name[0] != ' ' && name[0] != '*' {
			return nil, fmt.Errorf("line %d is %.60q: want a sha256 and a file name", n, line)
		}
		name = name[1:]
		d, err := units.ParseDigest(digest)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == '/' || r == 0x7f }) {
			return nil, fmt.Errorf("line %d names %.60q, which is not a plain file name", n, name)
		}
		if was, twice := list[name]; twice && was != d {
			return nil, fmt.Errorf("it names %s twice, with two digests", name)
		}
		list[name] = d
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("it lists nothing")
	}
	return list, nil
}

// newest is the newest version whose tarball is listed and that fits.
func (s sums) newest(fits func(units.KernelVersion) bool) (best units.KernelVersion, ok bool) {
	for name := range s {
		v, isTarball := tarballVersion(name)
		if isTarball && fits(v) && (!ok || v.Compare(best) > 0) {
			best, ok = v, true
		}
	}
	return best, ok
}

// tarballVersion reads the version from "linux-4.20.6.tar.xz".
func tarballVersion(name string) (units.KernelVersion, bool) {
	s, isLinux := strings.CutPrefix(name, "linux-")
	s, isXZ := strings.CutSuffix(s, ".tar.xz")
	v, err := units.ParseKernelVersion(s)
	return v, isLinux && isXZ && err == nil && v.Extra == ""
}
