// Package editdist finds the name that was probably meant by a mistyped one: see
// [Nearest].
package editdist

import "iter"

// Between is Levenshtein's distance in bytes. It takes time in proportion to both lengths.
func Between(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// Nearest returns the name that differs least from a mistyped one, by limit at most; of several the first; or "".
func Nearest(name string, known iter.Seq[string], limit int) string {
	best, least := "", limit+1
	for k := range known {
		if len(k)-len(name) > limit || len(name)-len(k) > limit {
			continue
		}
		d := Between(name, k)
		if d <= limit && d < len(k) && (d < least || d == least && k < best) {
			best, least = k, d
		}
	}
	return best
}
