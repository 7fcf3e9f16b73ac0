package archive

import (
	"strings"
	"testing"
)

func TestInstall(t *testing.T) {
	x := indexOf(t,
		stanza("app 1", "Depends: lib (>= 2), tool | other-tool, editor, any:any", "Pre-Depends: pre"),
		stanza("lib 1"), stanza("lib 2"), stanza("lib 3"),
		stanza("pre 1", "Depends: pre-dep"), stanza("pre-dep 1"),
		stanza("tool 1", "Conflicts: lib (<< 3)"), stanza("other-tool 1"),
		stanza("vim 1", "Provides: editor", "Priority: optional"),
		stanza("nano 1", "Provides: editor", "Priority: important"),
		stanza("any 1"),
		stanza("old 1", "Depends: lib (<< 3)"),
		stanza("needs-api 1", "Depends: api (= 5)"), stanza("api4 1", "Provides: api (= 4)"),
		stanza("api5 1", "Provides: api (= 5)"), stanza("api-some 1", "Provides: api"),
		stanza("a 1", "Depends: b"), stanza("b 1", "Depends: a"),
		stanza("prefers 1", "Depends: rival | friend"), stanza("rival 1", "Breaks: b"), stanza("friend 1"),
		stanza("self 1", "Provides: thing", "Conflicts: thing"),
		stanza("twin 1", "Provides: thing", "Conflicts: thing"),
		stanza("lost 1", "Depends: nowhere (>= 1) | lib (>= 9)"),
		stanza("foreign 1", "Depends: lib:i386"),
	)
	for _, c := range []struct{ names, have, want, err string }{
		{"app", "", "any app lib nano pre pre-dep tool", ""},
		{"app", "lib any nano pre tool", "app", ""},
		{"app", "vim other-tool", "any app lib pre pre-dep", ""},
		{"lib", "lib", "", ""},
		{"lib=2", "", "lib", ""},
		{"old", "", "lib old", ""},
		{"needs-api", "", "api5 needs-api", ""},
		{"a", "", "a b", ""},
		{"b prefers", "", "a b friend prefers", ""},
		{"prefers", "", "prefers rival", ""},
		{"self", "", "self", ""},
		{"app app", "pre", "any app lib nano tool", ""},
		{"self twin", "", "", "self excludes twin"},
		{"rival b", "", "", "rival excludes b"},
		{"rival", "b", "", "rival excludes b"},
		{"lost", "", "", "lost: it depends on nowhere (>= 1) | lib (>= 9)"},
		{"foreign", "", "", "foreign: it depends on lib:i386"},
		{"absent", "", "", `no package "absent"`},
		{"editor", "", "", "name one that provides it: nano, vim"},
		{"lib=7", "", "", "the suite has 3, not 7"},
	} {
		have := make(map[string]bool)
		for _, name := range strings.Fields(c.have) {
			have[name] = true
		}
		got, err := x.Install(strings.Fields(c.names), have)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("install %s: %v, %v, want the error %q", c.names, names(got), err, c.err)
			}
			continue
		}
		if err != nil || names(got) != c.want {
			t.Errorf("install %s: %q, %v, want %q", c.names, names(got), err, c.want)
		}
	}
	if got, _ := x.Install([]string{"lib=2"}, nil); got[0].Version != "2" {
		t.Errorf("lib=2 gives %s", got[0].Version)
	}
	if got, _ := x.Install([]string{"old"}, nil); got[0].Version != "2" {
		t.Errorf("lib (<< 3) gives %s", got[0].Version)
	}
}

func TestInstallOfWhatCannotBeRead(t *testing.T) {
	x := indexOf(t, stanza("a", "Depends: b"), stanza("b", "Depends: c (>="))
	if _, err := x.Install([]string{"a"}, nil); err == nil || !strings.Contains(err.Error(), "package b") {
		t.Errorf("%v", err)
	}
}
