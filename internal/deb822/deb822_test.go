package deb822

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestStanzas(t *testing.T) {
	for text, want := range map[string][]string{
		"":                     nil,
		"\n\n\n":               nil,
		"A: 1":                 {"A: 1"},
		"\nA: 1\n\n\n\nB: 2\n": {"A: 1", "B: 2"},
		"A: 1\n more\n\nB: 2":  {"A: 1\n more", "B: 2"},
	} {
		if got := slices.Collect(Stanzas(text)); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestFields(t *testing.T) {
	for stanza, want := range map[string]string{
		"A: 1\nB:2\nC:":                     "A=1|B=2|C=|",
		"Depends: a,\n b\n\tc\nSHA256:\n x": "Depends=a,\n b\n\tc|SHA256=x|",
		"A: b: c":                           "A=b: c|",
		"A: 1\nnothing\nB: 2":               `A=1|line "nothing" is no field`,
		" A: 1":                             `line " A: 1" is no field`,
		": 1":                               `line ": 1" is no field`,
		"-----BEGIN PGP SIGNED MESSAGE-----\nHash: x": `line "-----BEGIN PGP SIGNED MESSAGE-----" is no field`,
	} {
		var got strings.Builder
		for f, err := range Fields(stanza) {
			if err != nil {
				got.WriteString(err.Error())
				continue
			}
			fmt.Fprintf(&got, "%s=%s|", f.Name, f.Value)
		}
		if got.String() != want {
			t.Errorf("%q: %q, want %q", stanza, got.String(), want)
		}
	}
}

func TestMap(t *testing.T) {
	m, err := Map("Types: deb\nuris: http://x\nURIs: http://y")
	if err != nil || len(m) != 2 || m["types"] != "deb" || m["uris"] != "http://y" {
		t.Errorf("%q, %v", m, err)
	}
	if m, err := Map("Types: deb\nno field"); err == nil {
		t.Errorf("a line that is no field: %q", m)
	}
}

// Nothing that was written is lost, or read twice.
func FuzzDeb822(f *testing.F) {
	f.Add("A: 1\n more\n\nB: 2\n")
	f.Add("\n\n:\n \n")
	f.Fuzz(func(t *testing.T, text string) {
		n := 0
		for stanza := range Stanzas(text) {
			n += len(stanza)
			if stanza == "" || strings.Contains(stanza, "\n\n") {
				t.Errorf("the stanza %q is more than one, or none", stanza)
			}
			in := 0
			for f, err := range Fields(stanza) {
				if in += len(f.Name) + len(f.Value); err == nil &&
					(f.Name == "" || f.Value != strings.TrimSpace(f.Value)) {
					t.Errorf("field %+v of %q", f, stanza)
				}
			}
			if in > len(stanza) {
				t.Errorf("%q has fields of %d bytes", stanza, in)
			}
		}
		if n > len(text) {
			t.Errorf("%q has stanzas of %d bytes", text, n)
		}
	})
}
