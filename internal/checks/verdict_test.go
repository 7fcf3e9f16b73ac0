package checks

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExpectations(t *testing.T) {
	frames := []Frame{{"do_sys_openat2", "fs/open.c", 1435}, {"copy.isra.0", "lib/copy.c", 1},
		{Function: "entry_SYSCALL_64"}, {}}
	for _, tt := range []struct{ expect, unmet string }{
		{"fs/open.c:1435", ""}, {"open.c:1435", ""}, {"./fs/open.c:1435", ""},
		{"do_sys_openat2", ""}, {"entry_SYSCALL_64", ""}, {"copy", ""}, {"copy.isra.0", ""},
		{"fs/open.c:1436", "stopped in do_sys_openat2 at fs/open.c:1435, not at fs/open.c:1436"},
		{"en.c:1435", "stopped in do_sys_openat2 at fs/open.c:1435, not at en.c:1435"},
		{"lib/copy.c:1", "stopped in do_sys_openat2 at fs/open.c:1435, not at lib/copy.c:1"},
		{"vfs_read", "no vfs_read in the backtrace: do_sys_openat2, copy.isra.0, entry_SYSCALL_64, ??"},
		{"do_sys_open", "no do_sys_open in the backtrace: do_sys_openat2, copy.isra.0, entry_SYSCALL_64, ??"},
	} {
		e, err := ParseExpectation(tt.expect)
		if err != nil {
			t.Errorf("%s: %v", tt.expect, err)
		} else if got := e.unmet(frames); got != tt.unmet {
			t.Errorf("%s: %q, want %q", tt.expect, got, tt.unmet)
		}
	}
	if got := (Expectation{File: "a.c", Line: 1}).unmet(nil); got != "stopped in ??, not at a.c:1" {
		t.Errorf("no frame at all: %q", got)
	}
	if got := (Expectation{Function: "f"}).unmet(make([]Frame, 64)); !strings.HasSuffix(got, "??, 52 more") {
		t.Errorf("a long backtrace: %q", got)
	}
	for _, bad := range []string{"", "a b", "fs/open.c:", ":12", "fs/open.c:f", "*0x1", "a;b", "-1"} {
		if e, err := ParseExpectation(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, e)
		}
	}
}

func TestJudge(t *testing.T) {
	zero, three := 0, 3
	there := &Stop{Frames: []Frame{{"f", "a.c", 1}}}
	stop := Check{Name: "stop", Break: "f", When: AtBoot, Expect: []Expectation{{File: "a.c", Line: 1}}}
	run := Check{Name: "run", Run: "true"}
	both := Check{Name: "both", Break: "f", When: WhenRun, Run: "true",
		Expect: []Expectation{{File: "a.c", Line: 2}, {Function: "g"}}}
	for _, tt := range []struct {
		name    string
		check   Check
		seen    Seen
		verdict Verdict
		cause   Cause
		reasons []string
	}{
		{"a stop", stop, Seen{Stop: there}, Passed, "", nil},
		{"a command", run, Seen{Status: &zero}, Passed, "", nil},
		{"a command that fails", run, Seen{Status: &three}, Failed, Unmet, []string{"the command ended with status 3"}},
		{"all that is unmet", both, Seen{Stop: there, Status: &three,
			Values: []Value{{Expression: "x", Error: "no"}, {Expression: "y", Value: "1"}}},
			Failed, Unmet, []string{"stopped in f at a.c:1, not at a.c:2", "no g in the backtrace: f", "print x: no",
				"the command ended with status 3"}},
		{"a guest that hung after the stop", both, Seen{Stop: there, Err: errors.New("it hung"), Guest: true},
			Failed, GuestFault, []string{"it hung", "stopped in f at a.c:1, not at a.c:2", "no g in the backtrace: f"}},
		{"a guest that panicked", stop, Seen{Err: errors.New("it panicked"), Guest: true}, Failed, GuestFault,
			[]string{"it panicked"}},
		{"a gdb that died", stop, Seen{Err: errors.New("gdb ended")}, Failed, KimgFault, []string{"gdb ended"}},
		{"a command that ended before the stop", both,
			Seen{Status: &zero, Err: errors.New("not reached"), Guest: true}, Failed, GuestFault,
			[]string{"not reached"}},
		{"nothing seen", stop, Seen{}, Failed, KimgFault, []string{"nothing was seen of the check"}},
		{"no status seen", both, Seen{Stop: &Stop{Frames: []Frame{{"g", "a.c", 2}}}}, Failed, KimgFault,
			[]string{"nothing was seen of the check"}},
	} {
		tt.seen.Console = []string{"last words"}
		o := judge(tt.check, tt.seen)
		if o.Verdict != tt.verdict || o.Cause != tt.cause || !cmp.Equal(o.Reasons, tt.reasons) {
			t.Errorf("%s: %s by %q because of %q", tt.name, o.Verdict, o.Cause, o.Reasons)
		}
		if (len(o.Console) > 0) != (tt.verdict == Failed) {
			t.Errorf("%s: console %q", tt.name, o.Console)
		}
	}
}

func TestWorstCause(t *testing.T) {
	for _, tt := range []struct {
		causes []Cause
		want   Cause
	}{
		{nil, ""}, {[]Cause{"", ""}, ""}, {[]Cause{"", Unmet}, Unmet}, {[]Cause{Unmet, ""}, Unmet},
		{[]Cause{Unmet, GuestFault, Unmet}, GuestFault}, {[]Cause{GuestFault, KimgFault, GuestFault}, KimgFault},
		{[]Cause{KimgFault, Unmet}, KimgFault},
	} {
		r := &Report{}
		for _, c := range tt.causes {
			r.add(Outcome{Cause: c})
		}
		if got := r.Cause(); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.causes, got, tt.want)
		}
	}
}
