package yamlfile

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// told is what a reader finds wrong, line by line.
func told(r *Reader) []string {
	err := r.Err()
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

func TestDocument(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", ""},
		{"comments", "# only\n", ""},
		{"one", "a: 1\n", ""},
		{"one that ends", "---\na: 1\n...\n", ""},
		{"two", "a: 1\n---\nb: 2\n", "f:2: there is a second document: want one"},
		{"a tab", "a:\n\tb: 1\n", "f:2: a tab indents this line: YAML wants blanks"},
		{"no end", "a: [1\nb: 2\n", "f:1: did not find expected ',' or ']'"},
		{"no alias", "a: *b\n", "f:1: *b stands for what is marked &b, and nothing is: a text that begins with * is"},
		{"Latin-1", "a: 1\n# f\xfcr\n", "f:2: this line is not UTF-8: save the file as UTF-8"},
		{"UTF-16", "a\x00:\x00\n\x00", "f:1: a control character is in this line, as in a file that is UTF-16, or no " +
			"text: save it as UTF-8"},
		{"two colons", "a: b: c\n", `f:1: a second "KEY: " is in this line`},
		{"a key that is indented", "b: 1\n  a: 1\n", `f:2: a second "KEY: " is in this line, or one is indented`},
		{"a first one that is indented", " a: 1\nb: 2\n", "f:1: this line, or the next, does not begin in the column"},
		{"no blank", "a: 1\nb:2\nc: 3\n", "f:2: this line, or the one before, is no KEY: VALUE: a blank follows"},
		{"a second that is broken", "a: 1\n---\nb: [\n", "f:3: did not find expected node content"},
	} {
		r := &Reader{File: "f"}
		n := r.Document([]byte(tt.text))
		got := strings.Join(told(r), "\n")
		if got != tt.want && !(tt.want != "" && strings.HasPrefix(got, strings.SplitAfter(tt.want, ": ")[0]) &&
			strings.Contains(got, strings.SplitN(tt.want, ": ", 2)[1])) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		if (n != nil) != (tt.want == "" && strings.Contains(tt.text, "a: 1")) {
			t.Errorf("%s: a document %v", tt.name, n)
		}
	}
}

func TestMapping(t *testing.T) {
	known := []string{"suite", "size"}
	for _, tt := range []struct {
		text, want string
		keys       []string
	}{
		{"suite: a\nsize: b\n", "", []string{"size", "suite"}},
		{"Suite: a\n", `f:1: unknown key "Suite": did you mean suite?`, nil},
		{"zebra: a\n", `f:1: unknown key "zebra": want one of suite, size`, nil},
		{"suite: a\n\nsuite: b\nsize: c\n", "f:3: suite is there already, in line 1", []string{"size", "suite"}},
		{"suite:vm\n", `f:1: want "suite: vm": a key, a colon, a blank and the value`, nil},
		{"suite=vm\n", `f:1: want "suite: vm": a key, a colon, a blank and the value`, nil},
		{"suite:\u00a0vm\n", `f:1: want "suite: vm": a key, a colon, a blank and the value`, nil},
		{"- suite: vm\n", "f:1: want a file, not a list: leave out the dash (-)", nil},
		{"- {}\n", "f:1: want a file with the keys suite, size", nil},
		{"- zebra: vm\n", "f:1: want a file with the keys suite, size", nil},
		{"? [suite]\n: vm\n", "f:1: a key is a word: want one of suite, size", nil},
		{"[a]\n", "f:1: want a file with the keys suite, size", nil},
		{"suite: &x {a: b}\nsize: *x\n", "", []string{"size", "suite"}},
	} {
		r := &Reader{File: "f"}
		values := r.Mapping(r.Document([]byte(tt.text)), "a file", known)
		var keys []string
		for k, v := range values {
			keys = append(keys, k)
			if v.Kind == yaml.AliasNode {
				t.Errorf("%q: %s is an alias still", tt.text, k)
			}
		}
		slices.Sort(keys)
		if got := strings.Join(told(r), "\n"); got != tt.want || !slices.Equal(keys, tt.keys) {
			t.Errorf("%q: %q and %q, want %q and %q", tt.text, got, keys, tt.want, tt.keys)
		}
	}
}

func TestTextAndList(t *testing.T) {
	for _, tt := range []struct{ text, want, wrong string }{
		{"one", "one", ""}, {"'quoted: text'", "quoted: text", ""}, {"012", "012", ""}, {"y", "y", ""},
		{"[a, b]", "a b", ""}, {"[]", "", ""}, {"- a\n- *x", "", "*x stands for what is marked &x"},
		{"[a, [b]]", "a ", "f:1: key: want a text here, not a list"},
		{"{a: b}", "", "f:1: key: want a text here, not keys and values"},
		{"null", "", "f:1: key: want a text here, and there is nothing"},
		{"''", "", "f:1: key: want a text here, and it is empty"},
	} {
		r := &Reader{File: "f"}
		n := r.Document([]byte(tt.text))
		if n == nil {
			if tt.wrong == "" || !strings.Contains(strings.Join(told(r), "\n"), tt.wrong) {
				t.Errorf("%q: %q", tt.text, told(r))
			}
			continue
		}
		var got []string
		for _, one := range r.List(n) {
			got = append(got, r.Text("key", one))
		}
		if wrong := strings.Join(told(r), "\n"); strings.Join(got, " ") != tt.want || wrong != tt.wrong {
			t.Errorf("%q: %q and %q, want %q and %q", tt.text, got, wrong, tt.want, tt.wrong)
		}
	}
}

// All problems are told, by their lines, and the reasons can be found.
func TestErr(t *testing.T) {
	r := &Reader{File: "f"}
	r.Wrong(&yaml.Node{Line: 7}, "late")
	r.Wrong(&yaml.Node{Line: 2}, "early: %w", fs.ErrNotExist)
	r.Problems = append(r.Problems, Problem{File: "f", Err: errors.New("the whole of it")},
		Problem{Err: errors.New("--flag")})
	err := r.Err()
	want := "f: the whole of it\n--flag\nf:2: early: file does not exist\nf:7: late"
	if err == nil || err.Error() != want || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want %s", err, want)
	}
	if err := (&Reader{}).Err(); err != nil {
		t.Errorf("nothing is wrong: %v", err)
	}
}

func TestSuggest(t *testing.T) {
	known := []string{"arch", "fragments", "include", "patches", "run", "set"}
	all := strings.Join(known, ", ")
	for name, want := range map[string]string{
		"fragment": ": did you mean fragments?", "INCLUDE": ": did you mean include?",
		"patch": ": did you mean patches?", "frgaments": ": did you mean fragments?", "sets": ": did you mean set?",
		"targets": ": want one of " + all, "true": ": want one of " + all, "e": ": want one of " + all,
		"": ": want one of " + all,
	} {
		if got := Suggest(name, known); got != want {
			t.Errorf("%s%s, want %s", name, got, want)
		}
	}
}

func FuzzDocument(f *testing.F) {
	for _, s := range []string{"a: 1\n", "---\n---\n", "\t", "a: &a [*a]\n", "? [a]\n: b\n", "!!binary x", "- {}\n",
		"a:b\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := &Reader{File: "f"}
		n := r.Document([]byte(text))
		if n == nil {
			return
		}
		for _, v := range r.Mapping(n, "a file", []string{"a", "b"}) {
			for _, one := range r.List(v) {
				r.Text("a", one)
			}
		}
		r.Err()
	})
}
