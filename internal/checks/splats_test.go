package checks

import (
	"errors"
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/splat"
)

// complained are the reports of a console.
func complained() []*splat.Report {
	var r splat.Reader
	for _, function := range []string{"foo", "bar.isra.0"} {
		r.Write([]byte("------------[ cut here ]------------\n" +
			"WARNING: CPU: 0 PID: 73 at kernel/a.c:12 " + function + "+0x12/0x34\n" +
			"CPU: 0 UID: 0 PID: 73 Comm: cat Not tainted 6.12.117 #1\nRIP: 0010:" + function + "+0x12/0x34\n" +
			"Call Trace:\n" +
			" outer+0x1/0x2\n---[ end trace 0000000000000000 ]---\n"))
	}
	r.Close()
	return r.Reports()
}

func TestSplatsAreJudged(t *testing.T) {
	zero := 0
	known := Allowed{Kind: splat.Warning, Function: "foo", Reason: "known"}
	other := Allowed{Kind: splat.KASAN, Function: "foo", Reason: "another kind"}
	for _, tt := range []struct {
		name    string
		policy  Policy
		allow   []Allowed
		err     error
		verdict Verdict
		reasons int
		told    int
		allowed string
	}{
		{"by default", "", nil, nil, Failed, 2, 2, ""},
		{"fail", Fail, []Allowed{other}, nil, Failed, 2, 2, ""},
		{"one allowed", Fail, []Allowed{other, known}, nil, Failed, 1, 1, "known"},
		{"both allowed", Fail, []Allowed{known, {Function: "bar", Reason: "too"}}, nil, Passed, 0, 0, "known"},
		{"warn", Warn, nil, nil, Passed, 0, 2, ""},
		{"allow", Allow, nil, nil, Passed, 0, 0, ""},
		{"and a panic", Warn, nil, errors.New("the guest's kernel panicked"), Failed, 1, 2, ""},
	} {
		o := judge(Check{Name: "x", Run: "true", Splats: tt.policy, Allow: tt.allow},
			Seen{Status: &zero, Splats: complained(), Err: tt.err, Guest: true})
		told := strings.Count(strings.Join(o.told(), "\n"), "WARNING in ")
		if o.Verdict != tt.verdict || len(o.Reasons) != tt.reasons || told != tt.told || len(o.Splats) != 2 ||
			o.Splats[0].Allowed != tt.allowed || tt.verdict == Failed && o.Cause != GuestFault {
			t.Errorf("%s: %s %s %q, %d told, %+v", tt.name, o.Verdict, o.Cause, o.Reasons, told, o.Splats[0])
		}
	}
}

func TestSplatsAreReported(t *testing.T) {
	zero := 0
	for policy, where := range map[Policy]string{Fail: "<failure", Warn: "<system-out"} {
		report := &Report{}
		report.add(judge(Check{Name: "x", Run: "true", Splats: policy}, Seen{Status: &zero, Splats: complained()}))
		xml, err := report.JUnit()
		if err != nil {
			t.Fatal(err)
		}
		json, err := report.JSON()
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		(&Text{W: &text}).Outcome(report.Checks[0])
		for _, want := range []string{"WARNING in foo at kernel/a.c:12, by cat (pid 73)", "outer+0x1/0x2"} {
			if _, after, ok := strings.Cut(string(xml), where); !ok || !strings.Contains(after, want) {
				t.Errorf("%s: no %s after %s in %s", policy, want, where, xml)
			}
			if !strings.Contains(text.String(), want) {
				t.Errorf("%s: no %s in %s", policy, want, text.String())
			}
		}
		for _, want := range []string{`"key": "warning in foo"`, `"pid": 73`, `"function": "bar"`} {
			if !strings.Contains(string(json), want) {
				t.Errorf("%s: no %s in %s", policy, want, json)
			}
		}
	}
}

func TestSplatsInAFile(t *testing.T) {
	list, err := Parse("checks.yaml", []byte(`defaults:
  splats: warn
  allow: {kind: kasan, reason: that is what it is for}
checks:
  - {name: a, run: "true"}
  - name: b
    run: "true"
    splats: fail
    allow: [{function: foo, reason: known}]
`))
	if err != nil {
		t.Fatal(err)
	}
	if a, b := list[0], list[1]; a.Splats != Warn || len(a.Allow) != 1 || b.Splats != Fail || len(b.Allow) != 2 ||
		b.Allow[0] != (Allowed{Function: "foo", Reason: "known"}) || b.Allow[1].Kind != splat.KASAN {
		t.Errorf("%+v", list)
	}
	for text, want := range map[string]string{
		"splats: never":                                 "want fail, warn or allow",
		"allow: {kind: kasn, reason: x}":                "did you mean kasan?",
		"allow: {kind: kasan}":                          "want a reason",
		"allow: {reason: x}":                            "want kind, function or both",
		"allow: {function: 'a b', reason: x}":           "not a function's name",
		"allow: kasan":                                  "want what is allowed with the keys",
		"allow: [{kind: kasan, reason: x, why: y}]":     "unknown key",
		"allow: {kind: [kasan], reason: x}":             "want a text here",
		"allow: [{kind: kasan, reason: x}, {kind: oo}]": "there is no kind",
	} {
		_, err := Parse("checks.yaml", []byte("checks:\n  - name: a\n    run: \"true\"\n    "+text+"\n"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
