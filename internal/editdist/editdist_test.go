package editdist

import (
	"slices"
	"testing"
)

func TestBetween(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"KASAN", "KASAN", 0},
		{"KASAN", "KASN", 1}, {"kitten", "sitting", 3}, {"ab", "ba", 1},
		{"gbd", "gdb", 1}, {"abcd", "badc", 2}, {"ca", "abc", 3},
	} {
		if got := Between(c.a, c.b); got != c.want {
			t.Errorf("%q to %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"timeout", "share", "name", "by", "run", "rum", "KASAN"}
	for _, c := range []struct {
		name  string
		limit int
		want  string
	}{
		{"timeuot", 2, "timeout"}, {"timeout", 2, "timeout"}, {"shares", 1, "share"}, {"names", 0, ""},
		{"rut", 1, "rum"}, // of two the first by alphabet
		{"xx", 2, ""},     // has nothing in common with by
		{"", 3, ""}, {"KASN", 1, "KASAN"}, {"KSN", 1, ""},
	} {
		if got := Nearest(c.name, slices.Values(known), c.limit); got != c.want {
			t.Errorf("%q, %d: %q, want %q", c.name, c.limit, got, c.want)
		}
	}
}

func TestNear(t *testing.T) {
	known := []string{"arch", "fragments", "patches", "run", "set", "vm"}
	for name, want := range map[string]string{
		"fragment": "fragments", "RUN": "run", "frgaments": "fragments", "patch": "patches", "fragmnets1": "fragments",
		"VM": "vm", "vmm": "vm", "sets": "set", "true": "", "e": "", "": "", "xy": "", "targets": "",
	} {
		if got := Near(name, known); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
