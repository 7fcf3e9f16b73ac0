package compare

import (
	"encoding/binary"
	"io/fs"
	"math/bits"
	"os"
	"os/user"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Cause is why something likely differs.
type Cause string

// The causes.
const (
	Arch     Cause = "arch"
	Time     Cause = "time"
	Random   Cause = "random"
	Order    Cause = "order"
	Locale   Cause = "locale"
	Path     Cause = "path"
	User     Cause = "user"
	Host     Cause = "host"
	Owner    Cause = "owner"
	Umask    Cause = "umask"
	Package  Cause = "package"
	Config   Cause = "config"
	Compiler Cause = "compiler"
	Source   Cause = "source"
	Layout   Cause = "layout"
	Leftover Cause = "leftover"
	Follows  Cause = "follows"
)

// Causes explains each cause; the most telling is the first.
var Causes = []struct {
	Cause Cause
	Text  string
}{
	{Arch, "the builds are of two architectures"},
	{Source, "the kernel's source is another one"},
	{Config, "the configuration or another setting is another one"},
	{Compiler, "the compiler or toolchain is another one"},
	{Package, "a package was added, removed or has another version"},
	{Time, "a clock was read instead of SOURCE_DATE_EPOCH or KBUILD_BUILD_TIMESTAMP"},
	{Random, "a random UUID, key or name (or a digest of something else that differs)"},
	{Path, "it contains the name of the directory that it was built in"},
	{User, "it contains the name of the user who built it"},
	{Host, "it contains the name of the machine that built it"},
	{Owner, "files belong to the user who built it"},
	{Umask, "the mode depends on the umask of the user who built it"},
	{Locale, "it was sorted or written in the locale of the user who built it, without LC_ALL=C"},
	{Order, "the same items are in another order: that of a directory, a hash table or a race"},
	{Layout, "the same content is in other blocks"},
	{Leftover, "unused bytes were not cleared"},
	{Follows, "it follows from another difference"},
}

// recogniser finds one cause in two texts: their matches of its pattern differ.
type recogniser struct {
	cause Cause
	what  *regexp.Regexp
	valid func(match string) bool // nil: every match is
}

const (
	month = `(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)`
	day   = `(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)`
	clock = `\d{2}:\d{2}:\d{2}(?:\.\d+)?`
	zone  = `(?:Z|[A-Z]{3,5}|[+-]\d{2}:?\d{2})`
)

// recognisers are tried from the top. What one has recognised is hidden from those after it.
var recognisers = []recogniser{
	{Compiler, regexp.MustCompile(`\b(?:GCC:|gcc(?:-\d+)?|GNU ld|clang(?:-\d+)?) \([^)\n]*\)+ [\d.]+` +
		`|\bGNU C(?:\+\+)?\d* \d+\.\d+\.\d+|\b(?:clang version|LLD|GNU AS|GNU assembler) [\d.]+`), nil},
	{Locale, regexp.MustCompile(`\b(?:LANG|LANGUAGE|LC_[A-Z]+)=\S*` +
		`|\b[a-z]{2}_[A-Z]{2}(?:\.(?:UTF-?8|utf8|ISO[-\w]+))?\b|\bC\.(?:UTF-8|utf8)\b`), nil},
	{Time, regexp.MustCompile(`\d{4}-\d{2}-\d{2}` +
		`(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?` + zone + `)?)?`), nil},
	{Time, regexp.MustCompile(`(?:` + day + `,? +)?(?:` + month + ` +\d{1,2}|\d{1,2} +` + month + `)` +
		`(?: +` + clock + `(?: +[AP]M)?(?: +` + zone + `)?)?(?: +\d{4})` +
		`(?: +` + clock + `(?: +` + zone + `)?)?`), nil},
	{Time, regexp.MustCompile(clock), nil},
	{Time, regexp.MustCompile(`\b[1-4]\d{9}(?:\.\d+)?\b`), func(s string) bool {
		n, err := strconv.ParseInt(s[:10], 10, 64)
		return err == nil && plausible(n)
	}},
	{Time, regexp.MustCompile(`\b(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:T?\d{6}Z?)?\b`), nil},
	{Random, regexp.MustCompile(`(?i)\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`), nil},
	{Path, regexp.MustCompile(`(?:\.{0,2}/[\w.+%~,=-]+){2,}/?`), nil},
	{User, regexp.MustCompile(`[\w.+-]+@|\b(?:USER|LOGNAME|KBUILD_BUILD_USER|HOME)=\S*`), nil},
	{Host, regexp.MustCompile(`@[\w.-]+|\b(?:HOST|HOSTNAME|KBUILD_BUILD_HOST)=\S*`), nil},
	{Host, regexp.MustCompile(`\b[0-9a-f]{12}\b`), mixed}, // a container's host name is its id
	{Random, regexp.MustCompile(`\b(?i:[0-9a-f]{16,})\b|\btmp[._][A-Za-z0-9_]{6,}`), nil},
	{Random, regexp.MustCompile(`[A-Za-z0-9+/]{20,}={0,2}`), looksLikeKey},
}

// mixed reports whether a word has letters and digits, as every long random one does.
func mixed(s string) bool {
	letter := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }
	return strings.ContainsAny(s, "0123456789") && strings.ContainsFunc(s, letter)
}

// looksLikeKey reports whether a word has letters of both cases and digits, as a key in base64 does.
func looksLikeKey(s string) bool {
	return mixed(s) && strings.ToLower(s) != s && strings.ToUpper(s) != s
}

// local recognises the names of this machine and user, which are the likely ones to leak.
var local = sync.OnceValue(func() []recogniser {
	var out []recogniser
	add := func(c Cause, name string) {
		if len(name) >= 3 {
			out = append(out, recogniser{cause: c, what: regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\b`)})
		}
	}
	if h, err := os.Hostname(); err == nil {
		add(Host, h)
	}
	if u, err := user.Current(); err == nil && u.Username != "root" { // which many files name
		add(User, u.Username)
	}
	return out
})

const hidden = "\x00"

func causesOf(a, b string) []Cause {
	if a == b {
		return nil
	}
	if c := reordered(a, b); c != "" {
		return []Cause{c}
	}
	a, b = excerpt(a, b)
	var out []Cause
	found := func(c Cause) {
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	for _, r := range recognisers {
		x, restA := r.take(a)
		y, restB := r.take(b)
		if slices.Equal(x, y) {
			continue
		}
		// Where only one has it, it counts if the rest is the same.
		if len(x) != len(y) && restA != restB {
			continue
		}
		found(r.cause)
		if a, b = restA, restB; a == b {
			return out
		}
	}
	for _, r := range local() {
		if x, y := r.what.MatchString(a), r.what.MatchString(b); x != y {
			found(r.cause)
		}
	}
	return out
}

// aroundText and maxExcerpt bound the part of two long texts that is looked at, in bytes.
const (
	aroundText = 100
	maxExcerpt = 1000
)

// excerpt returns two texts around the place where they differ first. A line may be megabytes long.
func excerpt(a, b string) (string, string) {
	if len(a) <= maxExcerpt && len(b) <= maxExcerpt {
		return a, b
	}
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	from := max(0, n-aroundText)
	a, b = a[from:], b[from:]
	for len(a) > 2*aroundText && len(b) > 2*aroundText && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return a[:min(len(a), maxExcerpt)], b[:min(len(b), maxExcerpt)]
}

func (r recogniser) take(s string) (found []string, rest string) {
	rest = r.what.ReplaceAllStringFunc(s, func(m string) string {
		if r.valid != nil && !r.valid(m) {
			return m
		}
		found = append(found, m)
		if strings.HasSuffix(m, "@") { // a machine's name is recognised by it
			return hidden + "@"
		}
		return hidden
	})
	return found, rest
}

func first(c []Cause) Cause {
	if len(c) == 0 {
		return ""
	}
	return c[0]
}

// maxWords bounds a text whose words are compared as a set, in bytes.
const maxWords = 64 << 10

// reordered is Order where two texts have the same lines or words in another order; Locale if one is a language's.
func reordered(a, b string) Cause {
	for i, split := range []func(string) []string{
		func(s string) []string { return strings.Split(strings.TrimSuffix(s, "\n"), "\n") },
		strings.Fields,
		func(s string) []string { return strings.Split(s, ",") },
	} {
		if i > 0 && len(a) > maxWords {
			break
		}
		if x, y := split(a), split(b); len(x) > 1 && len(x) == len(y) {
			if c := orderOf(x, y); c != "" {
				return c
			}
		}
	}
	return ""
}

func orderOf(x, y []string) Cause {
	sx, sy := slices.Sorted(slices.Values(x)), slices.Sorted(slices.Values(y))
	if !slices.Equal(sx, sy) || slices.Equal(x, y) {
		return ""
	}
	if slices.Equal(x, sx) && collated(y) || slices.Equal(y, sy) && collated(x) {
		return Locale
	}
	return Order
}

// collated reports whether a list is sorted as languages sort, with punctuation or without (glibc before 2.28).
func collated(l []string) bool {
	letters := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r > 0x7F {
				return r
			}
			return -1
		}, strings.ToLower(s))
	}
	return slices.ContainsFunc([]func(string) string{strings.ToLower, letters}, func(key func(string) string) bool {
		return slices.IsSortedFunc(l, func(a, b string) int { return strings.Compare(key(a), key(b)) })
	})
}

// umasked reports whether two modes differ as two umasks make them.
func umasked(a, b fs.FileMode) bool {
	const set = 0o077
	return a&^set == b&^set && a != b && (a&b == a || a&b == b)
}

func binaryCause(a, b []byte) Cause {
	if len(a) != len(b) || len(a) < 4 {
		return ""
	}
	for i := 0; i+4 <= len(a); i += 4 {
		x, y := int64(binary.LittleEndian.Uint32(a[i:])), int64(binary.LittleEndian.Uint32(b[i:]))
		if plausible(x) && plausible(y) && near(x, y) && len(a) <= 8 {
			return Time
		}
	}
	if len(a) >= 16 && looksRandom(a, b) {
		return Random
	}
	return ""
}

// looksRandom reports whether about half of the bits differ, and neither is mostly one byte.
func looksRandom(a, b []byte) bool {
	diff, values := 0, map[byte]bool{}
	for i := range a {
		diff += bits.OnesCount8(a[i] ^ b[i])
		values[a[i]], values[b[i]] = true, true
	}
	n := 8 * len(a)
	return diff > n*3/10 && diff < n*7/10 && len(values) > len(a)
}
