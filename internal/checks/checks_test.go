package checks

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kimg/kimg/internal/units"
)

func TestParse(t *testing.T) {
	const text = `# what CI wants to know
defaults:
  timeout: 5m
  append: loglevel=7
  share: ../src:/src
checks:
  - name: an open at boot
    break: do_sys_openat2
  - name: version
    break: fs/proc/version.c:15
    expect:
      - ./fs/proc/version.c:15
      - seq_read_iter
    print: [linux_banner, "/x $rip"]
    run: cat /proc/version
    by: cat
    timeout: 90s
    append: quiet
    memory: 512M
    cpus: 2
    init: sh
    share: [/data]
  - name: after boot
    break: start_kernel
    when: boot
    expect: &again start_kernel
    print: *again
    run: |
      uname -r
      true
`
	got, err := Parse("dir/checks.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	base := Guest{Append: "loglevel=7", Share: []string{"src:/src"}}
	want := []Check{
		{Name: "an open at boot", Break: "do_sys_openat2", When: AtBoot, Timeout: 5 * time.Minute, Guest: base},
		{Name: "version", Break: "fs/proc/version.c:15", When: WhenRun,
			Expect: []Expectation{{File: "fs/proc/version.c", Line: 15}, {Function: "seq_read_iter"}},
			Print:  []string{"linux_banner", "/x $rip"}, Run: "cat /proc/version", By: "cat", Timeout: 90 * time.Second,
			Guest: Guest{Append: "loglevel=7 quiet", Memory: 512 << 20, CPUs: 2, Direct: true,
				Share: []string{"src:/src", "/data"}}},
		{Name: "after boot", Break: "start_kernel", When: AtBoot, Expect: []Expectation{{Function: "start_kernel"}},
			Print: []string{"start_kernel"}, Run: "uname -r\ntrue\n", Timeout: 5 * time.Minute, Guest: base},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Check{})); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if at := []int{got[1].Line(""), got[1].Line("break"), got[1].Line("when")}; !cmp.Equal(at, []int{9, 10, 9}) {
		t.Errorf("lines %v", at)
	}
}

// Everything that is wrong is reported at once, with its line.
func TestParseTellsOfAllThatIsWrong(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"no file at all", "", []string{"f.yaml: there are no checks in it"}},
		{"only a comment", "# soon\n", []string{"f.yaml: there are no checks in it"}},
		{"no list", "checks: none\n", []string{"f.yaml:1: want checks: and below it a list of them"}},
		{"an empty list", "checks: []\n", []string{"f.yaml:1: want checks: and below it a list of them"}},
		{"a bare list", "- name: x\n", []string{"f.yaml:1: want a file of checks with the keys defaults, checks"}},
		{"two documents", "checks: [{name: a, run: b}]\n---\nchecks: []\n",
			[]string{"f.yaml:2: there is a second document: want one"}},
		{"a tab", "checks:\n\t- name: a\n", []string{"f.yaml:2: a tab indents this line: YAML wants blanks"}},
		{"no YAML", "checks:\n  - name: a\n run: b\n", []string{"f.yaml:2: this line, or one near it"}},
		{"an anchor within itself", "checks: &a\n  - *a\n", []string{"f.yaml:1: want a check with the keys"}},
		{"typos", "checks:\n  - name: a\n    brake: x\n    run: y\n  - nmae: b\n    run: y\n    frobnicate: z\n",
			[]string{
				`f.yaml:3: unknown key "brake": did you mean break?`,
				`f.yaml:5: unknown key "nmae": did you mean name?`,
				`f.yaml:7: unknown key "frobnicate": want one of name, break, when, by, expect, print, run, timeout`}},
		{"a default that is none", "defaults:\n  break: x\nchecks: [{name: a, run: b}]\n",
			[]string{`f.yaml:2: unknown key "break": want one of timeout`}},
		{"twice", "checks:\n  - name: a\n    run: b\n    run: c\n  - name: b\n    run: c\n  - run: c\n    name: b\n",
			[]string{
				"f.yaml:4: run is there already, in line 3", `f.yaml:8: check "b" is there already, in line 5`}},
		{"an alias", "checks:\n  - &a\n    name: a\n    run: b\n  - *a\n", []string{
			`f.yaml:5: *a is check "a" of line 3 again: each needs a name of its own`}},
		{"little memory", "checks:\n  - name: a\n    run: b\n    memory: 512\n" +
			"  - name: b\n    run: b\n    memory: 31M\n", []string{
			"f.yaml:4: memory: 512 bytes: want at least 32M, such as 512M",
			"f.yaml:7: memory: 31M: want at least 32M"}},
		{"values", strings.Join([]string{"checks:", "  - name: [a]", "    run: ''", "    when: later",
			"    expect: [a b, '']",
			"    timeout: 5 min", "    memory: much", "    cpus: 0", "    init: systemd", "    print: {a: b}"}, "\n"),
			[]string{
				"f.yaml:2: name: want a text here, not a list", "f.yaml:3: run: want a text here",
				`f.yaml:4: when: "later": want boot or run`,
				`f.yaml:5: expect "a b": want FILE:LINE, or a function of the backtrace`,
				"f.yaml:5: expect: want a text here",
				`f.yaml:6: timeout: "5 min": want a time such as 90s or 5m`, `f.yaml:7: memory: parse size "much"`,
				`f.yaml:8: cpus: "0" is not a number of processors`, `f.yaml:9: init: "systemd": want sh`,
				"f.yaml:10: print: want a text here, not keys and values"}},
		{"a time that is over", "checks:\n  - name: a\n    run: b\n    timeout: -1s\n",
			[]string{`f.yaml:4: timeout: "-1s"`}},
		{"nothing to do", "checks:\n  - run: b\n  - name: a\n    timeout: 1m\n  - name: b\n    run: c\n    print: d\n" +
			"  - name: d\n    run: c\n    expect: e\n" +
			"  - name: e\n    run: c\n    when: boot\n  - name: f\n    break: c\n    when: run\n", []string{
			"f.yaml:2: a check has no name", `f.yaml:3: check "a" has nothing to check`,
			`f.yaml:7: check "b" prints where it stops: it needs break`,
			`f.yaml:10: check "d" expects a stop: it needs break`,
			`f.yaml:13: check "e" says when it stops: it needs break`,
			`f.yaml:16: check "f" stops while its command runs: it needs run`}},
		{"who", "checks:\n  - name: a\n    run: c\n    by: cat\n  - name: b\n    break: c\n    by: a-name-of-16-byt\n" +
			"  - name: c\n    break: c\n    by: \"a\\e\"\n", []string{
			`f.yaml:4: check "a" says which process stops: it needs break`,
			`f.yaml:7: check "b": "a-name-of-16-byt" is not the name of a process`, `f.yaml:10: check "c"`}},
		{"a hostile name", "checks:\n  - name: \"a\\e[2J\"\n    run: b\n  - name: " + strings.Repeat("n", 300) +
			"\n    run: b\n", []string{
			`f.yaml:2: name a check "a\x1b[2J"`, `f.yaml:4: name a check "nnn`}},
	} {
		list, err := Parse("f.yaml", []byte(tt.text))
		if err == nil {
			t.Errorf("%s: read as %+v", tt.name, list)
			continue
		}
		lines := strings.Split(err.Error(), "\n")
		if len(lines) != len(tt.want) {
			t.Errorf("%s: %d problems, want %d:\n%v", tt.name, len(lines), len(tt.want), err)
			continue
		}
		for i, want := range tt.want {
			if !strings.HasPrefix(lines[i], want) {
				t.Errorf("%s: %q, want %q", tt.name, lines[i], want)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("checks:\n  - name: a\n    break: b\n    print: [c, *d]\n    expect: &d e\n")
	f.Add("defaults: {timeout: 1s, share: [a]}\nchecks: [{name: x, run: y, <<: {a: b}}]\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := Parse("f.yaml", []byte(text))
		if err == nil && len(list) == 0 {
			t.Error("no checks and no error")
		}
		for _, c := range list {
			if c.Name == "" || c.Break == "" && c.Run == "" {
				t.Errorf("%+v", c)
			}
		}
	})
}

func TestSelect(t *testing.T) {
	list := []Check{{Name: "one"}, {Name: "two"}, {Name: "three"}}
	for _, tt := range []struct{ names, want string }{
		{"", "one two three"}, {"three one", "one three"}, {"two two", "two"},
	} {
		got, err := Select(list, strings.Fields(tt.names))
		var names []string
		for _, c := range got {
			names = append(names, c.Name)
		}
		if err != nil || strings.Join(names, " ") != tt.want {
			t.Errorf("%q: %q, %v", tt.names, names, err)
		}
	}
	if _, err := Select(list, []string{"tow"}); err == nil ||
		!strings.Contains(err.Error(), `no check "tow": did you mean two?`) {
		t.Errorf("%v", err)
	}
}

func TestGuestOver(t *testing.T) {
	base := Guest{Append: "a", Memory: units.Size(1), CPUs: 2, Share: []string{"x"}}
	if got := (Guest{}).over(base); !cmp.Equal(got, base) {
		t.Errorf("nothing over it: %+v", got)
	}
	got := Guest{Append: "b", CPUs: 4, Direct: true, Share: []string{"y"}}.over(base)
	want := Guest{Append: "a b", Memory: 1, CPUs: 4, Direct: true, Share: []string{"x", "y"}}
	if !cmp.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}
