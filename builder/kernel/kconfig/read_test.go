package kconfig

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLex(t *testing.T) {
	vars := map[string]string{"SRCARCH": "x86", "srctree": "."}
	for line, want := range map[string]string{
		"":                                   "",
		"  # only a comment":                 "",
		"config A # and a comment":           "w:config w:A",
		"\tbool \"a # no comment\"\r":        "w:bool q:a # no comment",
		`prompt 'it is "quoted"'`:            `w:prompt q:it is "quoted"`,
		`prompt "a \"b\" \\ c"`:              `w:prompt q:a "b" \ c`,
		`prompt "no end`:                     "w:prompt q:no end",
		"if A&&!B||(C!=D)":                   "w:if w:A o:&& o:! w:B o:|| o:( w:C o:!= w:D o:)",
		"N >= 4 && M<=0x5":                   "w:N o:>= w:4 o:&& w:M o:<= w:0x5",
		"source \"arch/$(SRCARCH)/Kconfig\"": "w:source q:arch/x86/Kconfig",
		"source $(SRCARCH)":                  "w:source w:x86",
		"source \"$(OTHER)/K\"":              "w:source q:$(OTHER)/K",
		"if $(cc-option,-f(a) $(b)) && C":    "w:if m:$(cc-option,-f(a) $(b)) o:&& w:C",
		"if $(no end":                        "w:if m:$(no end",
		"a & b | $c":                         "w:a w:& w:b w:| w:$ w:c",
		"---help---":                         "w:---help---",
	} {
		var got []string
		for _, tok := range lex(line, vars) {
			got = append(got, fmt.Sprintf("%c:%s", "wqmo"[tok.kind], tok.text))
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%q: %s, want %s", line, s, want)
		}
	}
}

// defs are a tree's definitions in a line each, for tables.
func defs(t *Tree) (lines []string) {
	for name, s := range t.Symbols {
		for _, d := range s.Defs {
			line := fmt.Sprintf("%s:%d %s %s %q", d.File, d.Line, name, s.Type, d.Prompt)
			if d.Depends != nil {
				line += " depends " + d.Depends.String()
			}
			if d.Visible != nil {
				line += " visible " + d.Visible.String()
			}
			if d.Choice != nil {
				line += fmt.Sprintf(" choice %q %s", d.Choice.Prompt, d.Choice.Members)
			}
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return lines
}

// TestRead has what surrounds a definition in each of the ways of the language.
func TestRead(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"a prompt of its own": {"config A\n\ttristate\n\tprompt \"a\" if B\n",
			[]string{`Kconfig:1 A tristate "a" visible B`}},
		"two dependencies": {"config A\n\tbool \"a\"\n\tdepends on B\n\tdepends on C || D\n",
			[]string{`Kconfig:1 A bool "a" depends B && (C || D)`}},
		"a continued line": {"config A\n\tbool \"a\"\n\tdepends on B || \\\n\t\tC\nconfig D\n\tdef_bool y\n",
			[]string{`Kconfig:1 A bool "a" depends B || C`, `Kconfig:5 D bool ""`}},
		"nested blocks": {"menu \"m\"\n\tdepends on M\n\tvisible if V\nif I\nconfig A\n\tint \"a\"\n\tdepends on D\n" +
			"endif\nendmenu\n" +
			"config B\n\tstring \"b\"\n",
			[]string{`Kconfig:10 B string "b"`, `Kconfig:5 A int "a" depends (M && I) && D visible V`}},
		"a choice": {"choice\n\tprompt \"c\" if V\n\tdepends on D\nconfig A\n\tbool \"a\"\nconfig B\n\tbool \"b\"\n" +
			"endchoice\nconfig C\n\tbool\n",
			[]string{`Kconfig:4 A bool "a" depends D visible V choice "c" [A B]`,
				`Kconfig:6 B bool "b" depends D visible V choice "c" [A B]`,
				`Kconfig:9 C bool ""`}},
		"a choice with its prompt at its type": {"choice\n\tbool \"c\"\nconfig A\n\tbool \"a\"\nendchoice\n",
			[]string{`Kconfig:3 A bool "a" choice "c" [A]`}},
		"help ends where its indentation " +
			"does": {"config A\n\tbool \"a\"\n\thelp\n\n\t  config X\n\n\t    config Y\n\tdepends on B\nconfig C\n" +
			"\thex \"c\"\n\t---help---\n\t  if Z\n",
			[]string{`Kconfig:1 A bool "a" depends B`, `Kconfig:9 C hex "c"`}},
		"tabs and spaces": {"config A\n        bool \"a\"\n\thelp\n\t text\n          more\nconfig B\n\tbool \"b\"\n",
			[]string{`Kconfig:1 A bool "a"`, `Kconfig:6 B bool "b"`}},
		"a line that is not understood": {"config A\n\tbool \"a\"\n\ttransitional\n\tdepends on (B\n" +
			"\toption env=\"X\"\nendif\nendmenu\n",
			[]string{`Kconfig:1 A bool "a"`}},
		"sources": {"source \"a/Kconfig\"\nif I\nsource 'arch/$(SRCARCH)/Kconfig'\n" +
			"source \"arch/$SRCARCH/Kconfig.old\"\n" +
			"endif\n" +
			"orsource \"none\"\nsource \"b/*/Kconfig\"\n",
			[]string{`a/Kconfig:1 AA bool ""`, `arch/x86/Kconfig.old:1 OLD bool "" depends I`,
				`arch/x86/Kconfig:1 X86 bool "" depends I`,
				`b/1/Kconfig:1 B1 bool ""`, `b/2/Kconfig:1 B2 bool ""`, `b/sub:1 SUB bool ""`}},
	} {
		files := Files{
			"Kconfig": []byte(c.text), "a/Kconfig": []byte("config AA\n\tbool\n" +
				"rsource \"../b/s?b\"\n"), "b/sub": []byte("config SUB\n\tbool"),
			"arch/x86/Kconfig": []byte("config X86\n\tbool\n"), "arch/x86/Kconfig.old": []byte("config OLD\n\tbool\n"),
			"b/1/Kconfig": []byte("config B1\n\tbool\n"), "b/2/Kconfig": []byte("config B2\n\tbool\n"),
		}
		tree, err := Read(files, "x86", "x86_64")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(c.want, defs(tree)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestParseConfig(t *testing.T) {
	got := ParseConfig([]byte("# Linux/x86 6.1 Kernel Configuration\nCONFIG_A=y\r\n# CONFIG_B is not set\n" +
		"CONFIG_C=n\nCONFIG_D=\"x=y\"\n" +
		"CONFIG_E=\nNO_CONFIG=y\nCONFIG_NONE\nCONFIG_A=m"))
	want := Config{"A": "m", "D": `"x=y"`, "E": ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got.Get("B") != "n" || got.Get("D") != `"x=y"` {
		t.Errorf("B is %s, D is %s", got.Get("B"), got.Get("D"))
	}
}
