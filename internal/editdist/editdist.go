// Package editdist finds the name that was probably meant by a mistyped one: see
// [Near] and [Nearest].
package editdist

import (
	"iter"
	"slices"
	"strings"
)

// Between is Levenshtein's distance in bytes, where two neighbours that are exchanged are one slip. It takes time in
// proportion to both lengths.
func Between(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	last, before := make([]int, len(b)+1), make([]int, len(b)+1) // the rows before it
	for i := range len(a) {
		before, last, row = last, row, before
		row[0] = i + 1
		for j := range len(b) {
			change := last[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(change, row[j]+1, last[j+1]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}

// Nearest returns the name that differs least from a mistyped one, by limit at most; of several one that is as long,
// then the first; or "".
func Nearest(name string, known iter.Seq[string], limit int) string {
	best, least := "", limit+1
	for k := range known {
		if len(k)-len(name) > limit || len(name)-len(k) > limit {
			continue
		}
		d := Between(name, k)
		long, was := len(k) != len(name), len(best) != len(name)
		if d <= limit && d < len(k) && (d < least || d == least && (!long && was || long == was && k < best)) {
			best, least = k, d
		}
	}
	return best
}

// Near is the one of a few words that was probably meant, whatever the case: it is one slip away, begins with the name,
// or, with the same first letter, is two slips away; or "".
func Near(name string, known []string) string {
	name = strings.ToLower(name)
	if near := Nearest(name, slices.Values(known), min(1, len(name)/2)); near != "" || len(name) < 3 {
		return near
	}
	for _, k := range known {
		if strings.HasPrefix(k, name) || k[0] == name[0] && Between(name, k) <= 2 {
			return k
		}
	}
	return ""
}
