package spec

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEditSet(t *testing.T) {
	tests := []struct {
		name, text string
		set        []string
		want       string
	}{
		{"no file", "", []string{"A=y"}, "set:\n  - A=y\n"},
		{"only a comment", "# mine\n", []string{"A=y"}, "# mine\nset:\n  - A=y\n"},
		{"no set", "kernel: \"6.12\" # the line\n\nsuite: sid", []string{"A=y", "B=n"},
			"kernel: \"6.12\" # the line\n\nsuite: sid\nset:\n  - A=y\n  - B=n\n"},
		{"an empty set", "set:\nsuite: sid\n", []string{"A=y"}, "set:\n  - A=y\nsuite: sid\n"},
		{"comments and blank lines stay", "# top\nset:\n- A=y # why\n\n- B=y\n# below\n\nsuite: sid # end\n",
			[]string{"A=y", "C=\"x y\""},
			"# top\nset:\n- A=y # why\n\n- C=\"x y\"\n# below\n\nsuite: sid # end\n"},
		{"nothing to add", "set:\n    - A=y\n    - B=y\n", []string{"B=y"}, "set:\n    - B=y\n"},
		{"all go", "set:\n  - A=y\nsuite: sid\n", nil, "set:\nsuite: sid\n"},
		{"twice the same", "set: \n  - A=y\n  - A=y\n", []string{"A=y"}, "set: \n  - A=y\n"},
		{"flow style", "suite: sid # s\nset: [A=y, B=n] # two\n", []string{"A=y", "C=m"},
			"suite: sid # s\nset: [A=y, C=m] # two\n"},
		{"a text", "set: A=y # a\n", []string{"A=y", "B=n"}, "set: # a\n  - A=y\n  - B=n\n"},
		{"a quoted text", "set: 'A=y,B=n'\n", []string{"B=n"}, "set:\n  - B=n\n"},
		{"keys and values", "set: # why\n  A: y # a\n  B: n\nsuite: sid\n", []string{"A=y", "C=m"},
			"set: # why\n  - A=y\n  - C=m\nsuite: sid\n"},
		{"an entry over two lines", "set:\n  - \"A=\\\n    b\"\n  - C=y\n", []string{"A=b", "D=y"},
			"set:\n  - \"A=\\\n    b\"\n  - D=y\n"},
	}
	for _, tt := range tests {
		got, err := EditSet([]byte(tt.text), tt.set)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if diff := cmp.Diff(tt.want, string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	for _, bad := range []string{"- a\n", "a: [\n", "just words\n", "set: {a: b}\nx: &a 1\ny: *a\nset: 1\n"} {
		if got, err := EditSet([]byte(bad), []string{"A=y"}); err == nil {
			t.Errorf("%q was edited to %q", bad, got)
		}
	}
}

// FuzzEditSet: whatever a kimg.yaml is like, an edit changes nothing but set:.
func FuzzEditSet(f *testing.F) {
	for _, s := range []string{"", "set: [A=y]\n", "# c\nset:\n- A=y # w\n\nsuite: sid\n",
		"set:\n  - >\n   A\nx: 1\n", "---\nset:\n- A\n---\n"} {
		f.Add(s, "B=y")
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		if len(text) > 1<<12 || len(value) > 100 || strings.ContainsAny(value, "\n\r\x00") {
			return
		}
		if out, err := EditSet([]byte(text), []string{value}); err == nil &&
			!onlySet([]byte(text), out, []string{value}) {
			t.Errorf("%q became %q", text, out)
		}
	})
}
