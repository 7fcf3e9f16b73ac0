package editdist

import "testing"

func TestBetween(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"KASAN", "KASAN", 0},
		{"KASAN", "KASN", 1}, {"kitten", "sitting", 3}, {"ab", "ba", 2},
	} {
		if got := Between(c.a, c.b); got != c.want {
			t.Errorf("%q to %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
