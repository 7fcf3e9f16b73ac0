// Package editdist tells how different two names are, for the words "did you
// mean". It must not know what is named.
package editdist

// Between is Levenshtein's distance: how many bytes to add, drop or change to
// turn a into b. It takes time in proportion to both lengths: a caller with many
// names looks at their lengths first.
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
