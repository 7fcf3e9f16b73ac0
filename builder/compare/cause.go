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

// Causes says of each cause what it means, the most telling first.
var Causes = []struct {
	Cause Cause
	Means string
}{
	{Source, "another kernel source was built"},
	{Config, "another configuration or setting was asked for"},
	{Compiler, "another compiler or toolchain built it"},
	{Package, "a package was added, left out or has another version"},
	{Time, "a clock was read where SOURCE_DATE_EPOCH or KBUILD_BUILD_TIMESTAMP should have been"},
	{Random, "a UUID, key or name was drawn at random (or is a digest of something else that differs)"},
	{Path, "the name of a directory that it was built in got into it"},
	{User, "the name of the user who built it got into it"},
	{Host, "the name of the machine that built it got into it"},
	{Owner, "files belong to the user who built it"},
	{Umask, "the builder's umask is in the mode"},
	{Locale, "it was sorted or written by the rules of the builder's language: LC_ALL=C was not set"},
	{Order, "the same things stand in another order: a directory's, a hash table's or a race's"},
	{Layout, "the same content lies in other blocks"},
	{Leftover, "bytes that nobody reads were not cleared"},
	{Follows, "it follows from another difference"},
}

// recogniser finds one cause in two texts: what both have of its pattern is not
// the same.
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

// recognisers are tried from the top. What one has recognised is hidden from
// those after it, so that a text may have several causes and each is found.
var recognisers = []recogniser{
	{Compiler, regexp.MustCompile(`\b(?:GCC:|gcc(?:-\d+)?|GNU ld|clang(?:-\d+)?) \([^)\n]*\)+ [\d.]+|\bGNU C(?:\+\+)?\d* \d+\.\d+\.\d+|\b(?:clang version|LLD|GNU AS|GNU assembler) [\d.]+`), nil},
	{Locale, regexp.MustCompile(`\b(?:LANG|LANGUAGE|LC_[A-Z]+)=\S*|\b[a-z]{2}_[A-Z]{2}(?:\.(?:UTF-?8|utf8|ISO[-\w]+))?\b|\bC\.(?:UTF-8|utf8)\b`), nil},
	{Time, regexp.MustCompile(`\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?` + zone + `)?)?`), nil},
	{Time, regexp.MustCompile(`(?:` + day + `,? +)?(?:` + month + ` +\d{1,2}|\d{1,2} +` + month + `)(?: +` + clock + `(?: +[AP]M)?(?: +` + zone + `)?)?(?: +\d{4})(?: +` + clock + `(?: +` + zone + `)?)?`), nil},
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
	{Host, regexp.MustCompile(`\b[0-9a-f]{12}\b`), mixed}, // a container's host name is its number
	{Random, regexp.MustCompile(`\b(?i:[0-9a-f]{16,})\b|\btmp[._][A-Za-z0-9_]{6,}`), nil},
	{Random, regexp.MustCompile(`[A-Za-z0-9+/]{20,}={0,2}`), drawn},
}

// mixed says that a word has letters and digits, as nothing that was drawn at
// random lacks for long.
func mixed(s string) bool {
	return strings.ContainsAny(s, "0123456789") && strings.ContainsFunc(s, func(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' })
}

// drawn says that a word has letters of both cases and digits, as a key in base64.
func drawn(s string) bool {
	return mixed(s) && strings.ToLower(s) != s && strings.ToUpper(s) != s
}

// local are this machine's and user's own names, which a leak is likely to be of.
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
	if u, err := user.Current(); err == nil && u.Username != "root" { // half of all files name root
		add(User, u.Username)
	}
	return out
})

// hidden stands for what was recognised.
const hidden = "\x00"

// causesOf returns what likely makes two texts differ, without what is unknown.
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
		// One of them lacks it: it may still be the name of what moved.
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

// aroundText and maxExcerpt bound what of two long texts is looked at, in bytes.
const (
	aroundText = 100
	maxExcerpt = 1000
)

// excerpt returns two texts around the place where they differ first. A line may
// be megabytes long.
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

// take returns the matches in a text, and the text without them.
func (r recogniser) take(s string) (found []string, rest string) {
	rest = r.what.ReplaceAllStringFunc(s, func(m string) string {
		if r.valid != nil && !r.valid(m) {
			return m
		}
		found = append(found, m)
		if strings.HasSuffix(m, "@") { // the machine's name begins with it
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

// reordered says whether two texts have the same lines, or the same words on one
// line, in another order; and whether it is the order of a language.
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

// orderOf says whether two lists have the same items in another order.
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

// collated says whether a list is sorted as languages sort: letters before their
// case, and without a look at punctuation (as glibc did before 2.28) or after it.
func collated(l []string) bool {
	letters := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r > 0x7F {
				return r
			}
			return -1
		}, strings.ToLower(s))
	}
	return slices.IsSortedFunc(l, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) }) ||
		slices.IsSortedFunc(l, func(a, b string) int { return strings.Compare(letters(a), letters(b)) })
}

// umasked says whether two modes differ as two umasks make them: in what the
// group and others may, and one has no more than the other.
func umasked(a, b fs.FileMode) bool {
	const set = 0o077
	return a&^set == b&^set && a != b && (a&b == a || a&b == b)
}

// binaryCause looks at two pieces of memory that differ.
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

// looksRandom says whether two pieces have about as many different bits as two
// draws have, half of them, and neither is mostly of one byte.
func looksRandom(a, b []byte) bool {
	diff, values := 0, map[byte]bool{}
	for i := range a {
		diff += bits.OnesCount8(a[i] ^ b[i])
		values[a[i]], values[b[i]] = true, true
	}
	n := 8 * len(a)
	return diff > n*3/10 && diff < n*7/10 && len(values) > len(a)
}
