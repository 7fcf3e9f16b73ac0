package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kimg/kimg/builder/compare"
)

// manyDifferences is an image with more differences than are shown, the telling
// one of which is the last, and a hostile file name.
func manyDifferences() *compare.Report {
	r := &compare.Report{A: "one", B: "two", Notes: []string{"a \x1b[31mnote"}}
	add := func(artifact, where, a, b string, c compare.Cause) {
		d := compare.Difference{Artifact: artifact, Where: where, A: a, B: b, Cause: c}
		r.Differences = append(r.Differences, d)
	}
	add("inputs", "inputs[rootfs package dash]", "0.5-1", "0.5-2", compare.Package)
	for i := range 40 {
		add("rootfs.img", fmt.Sprintf("/f%d: mtime", i), "x", "y", compare.Follows)
	}
	add("rootfs.img", "/evil\x1b]0;title\a\nname: owner", "0:0", "1000:0", compare.Owner)
	add("rootfs.img", "/new", "", strings.Repeat("z", 200), "")
	return r
}

func TestReportText(t *testing.T) {
	text := reportText(manyDifferences(), false)
	for _, want := range []string{
		"A  one\nB  two\n",
		"\ninputs: 1 difference\n  package   inputs[rootfs package dash]: 0.5-1 -> 0.5-2\n",
		"\nrootfs.img: 42 differences\n",
		"  owner     /evil name: owner: 0:0 -> 1000:0\n",
		"  -         /new\n              A  (none)\n              B  zzz",
		"  and 30 more (--all)\n",
		"  owner          1  ", "  follows       40  ", "  -              1  no cause is known",
		"note: a note\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if strings.ContainsAny(text, "\x1b\a") {
		t.Errorf("control characters reach the terminal: %q", text)
	}
	same := reportText(&compare.Report{A: "one", B: "two", Notes: []string{"a note"}}, false)
	if same != "one and two are the same, byte for byte, except for the notes\nnote: a note\n" {
		t.Errorf("of the same: %q", same)
	}
	same = reportText(&compare.Report{A: "one", B: "two"}, false)
	if same != "one and two are the same, byte for byte\n" {
		t.Errorf("of the same without a note: %q", same)
	}
	all := reportText(manyDifferences(), true)
	if strings.Contains(all, "--all") || strings.Count(all, ": mtime: x -> y") != 40 {
		t.Errorf("--all:\n%s", all)
	}
}

// TestMostTelling shows one of each cause, however many there are of another.
func TestMostTelling(t *testing.T) {
	l := manyDifferences().Differences[1:]
	got := mostTelling(l, 5)
	var causes []compare.Cause
	for _, d := range got {
		causes = append(causes, d.Cause)
	}
	if len(got) != 5 || !slices.Contains(causes, compare.Owner) || !slices.Contains(causes, "") ||
		got[0].Where != "/f0: mtime" {
		t.Errorf("%+v", got)
	}
}
