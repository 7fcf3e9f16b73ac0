package compare

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxText bounds a text that is compared by lines, in bytes.
const maxText = 64 << 20

// isText reports whether a file that begins so is text in UTF-8.
func isText(_ thing, head []byte) bool {
	if bytes.IndexByte(head, 0) >= 0 {
		return false
	}
	for len(head) > 0 {
		r, n := utf8.DecodeRune(head)
		if r == utf8.RuneError && n == 1 && len(head) >= utf8.UTFMax {
			return false
		}
		head = head[n:]
	}
	return true
}

func (r *Report) texts(_ context.Context, t thing, a, b blob, _ changes) error {
	x, y, err := two(a, b, func(b blob) ([]byte, error) { return b.bytes(maxText) })
	if err != nil {
		return err
	}
	r.lines(t, "line", string(x), string(y))
	return nil
}

// lines compares two texts by lines; what is the report's word for one.
func (r *Report) lines(t thing, what, x, y string) {
	if c := reordered(x, y); c != "" {
		line, l, m := firstLine(x, y)
		l, m = excerpt(l, m)
		r.report(t, fmt.Sprintf("%s %d", what, line), strconv.Quote(l), strconv.Quote(m), c)
		return
	}
	seen := map[Cause]bool{}
	pairs, more := linePairs(x, y)
	for _, p := range pairs {
		causes := causesOf(p.a, p.b)
		if len(causes) == 0 {
			causes = []Cause{nameCause(t.where + "/" + t.base)}
		}
		p.a, p.b = excerpt(p.a, p.b)
		for _, c := range causes {
			if !seen[c] { // one line of each cause: a text may be long
				seen[c] = true
				r.report(t, fmt.Sprintf("%s %d", what, p.line), p.show(p.a, p.hasA), p.show(p.b, p.hasB), c)
			}
		}
	}
	if rest := len(pairs) + more - 1; rest > 0 && len(pairs) > len(seen) {
		r.report(t, "more, by "+what, fmt.Sprintf("%d differ in all", rest+1), "", Follows)
	}
}

func nameCause(name string) Cause {
	switch path.Base(name) {
	case "hostname", "mailname", "hosts":
		return Host
	}
	return ""
}

func firstLine(a, b string) (n int, x, y string) {
	l, m := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(l), len(m)) {
		if l[i] != m[i] {
			return i + 1, l[i], m[i]
		}
	}
	return min(len(l), len(m)) + 1, "", ""
}

// linePair is a line of A and the line of B in its place; one of them may be missing.
type linePair struct {
	line       int // of A, or of B where A has none
	a, b       string
	hasA, hasB bool
}

func (p linePair) show(s string, has bool) string {
	if !has {
		return ""
	}
	return strconv.Quote(s)
}

// maxPairs is how many lines of a text are looked into.
const maxPairs = 1000

// linePairs pairs the lines that only one of two texts has, in their order. more
// is how many there are beyond those that are returned.
func linePairs(a, b string) (out []linePair, more int) {
	type line struct {
		n int
		s string
	}
	only := func(s, other string) []line {
		count := map[string]int{}
		for l := range strings.Lines(other) {
			count[l]++
		}
		var out []line
		n := 0
		for l := range strings.Lines(s) {
			if n++; count[l] > 0 {
				count[l]--
				continue
			}
			out = append(out, line{n, strings.TrimSuffix(l, "\n")})
		}
		return out
	}
	x, y := only(a, b), only(b, a)
	for i := range max(len(x), len(y)) {
		if i == maxPairs {
			return out, max(len(x), len(y)) - i
		}
		var p linePair
		if i < len(y) {
			p.line, p.b, p.hasB = y[i].n, y[i].s, true
		}
		if i < len(x) {
			p.line, p.a, p.hasA = x[i].n, x[i].s, true
		}
		out = append(out, p)
	}
	return out, 0
}
