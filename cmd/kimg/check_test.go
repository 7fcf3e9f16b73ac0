package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kimg/kimg/builder"
	"github.com/kimg/kimg/internal/checks"
	"github.com/kimg/kimg/internal/gdb"
	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/toolbox"
	"github.com/kimg/kimg/internal/units"
	"github.com/kimg/kimg/internal/vm"
	"github.com/kimg/kimg/internal/vm/replay"
)

// readChecks runs the command's words and returns what it would check.
func readChecks(t *testing.T, words ...string) ([]checks.Check, error) {
	t.Helper()
	var got checkRequest
	a, _ := testApp(t, table{check: func(_ context.Context, _ builder.Env, req checkRequest) error {
		got = req
		return nil
	}})
	root := a.root()
	root.SetArgs(append([]string{"check", "--out", "x"}, words...))
	err := root.Execute()
	return got.list, err
}

func TestCheckFlags(t *testing.T) {
	const gig = units.Size(1 << 30)
	guest := checks.Guest{} // as much memory as it needs
	f := func(names ...string) []checks.Expectation {
		var list []checks.Expectation
		for _, n := range names {
			list = append(list, checks.Expectation{Function: n})
		}
		return list
	}
	for _, tt := range []struct {
		name  string
		words []string
		want  []checks.Check
	}{
		{"a breakpoint", []string{"--break", "f"},
			[]checks.Check{{Name: "f", Break: "f", When: checks.AtBoot, Guest: guest}}},
		{"several", []string{"--break", "f", "--break", "g", "--break", "f", "--expect", "h", "--timeout", "90s"},
			[]checks.Check{
				{Name: "f", Break: "f", When: checks.AtBoot, Expect: f("h"), Timeout: 90 * time.Second, Guest: guest},
				{Name: "g", Break: "g", When: checks.AtBoot, Expect: f("h"), Timeout: 90 * time.Second, Guest: guest},
				{Name: "f (2)", Break: "f", When: checks.AtBoot, Expect: f("h"), Timeout: 90 * time.Second,
					Guest: guest}}},
		{"a command", []string{"--run", "uname -r", "--init", "sh", "--memory", "2G", "--cpus", "2", "--append",
			"quiet"}, []checks.Check{
			{Name: "uname -r", Run: "uname -r",
				Guest: checks.Guest{Memory: 2 * gig, CPUs: 2, Append: "quiet", Direct: true}}}},
		{"while it runs", []string{"--break", "f", "--run", "x", "--print", "a, b"}, []checks.Check{
			{Name: "f", Break: "f", When: checks.WhenRun, Run: "x", Print: []string{"a, b"}, Guest: guest}}},
		{"before it runs", []string{"--break", "f", "--run", "x", "--when", "boot"}, []checks.Check{
			{Name: "f", Break: "f", When: checks.AtBoot, Run: "x", Guest: guest}}},
		{"a long script", []string{"--run", "  echo a very very very very long line of it\nfalse\n"}, []checks.Check{
			{Name: "echo a very very very very long line of ...",
				Run: "  echo a very very very very long line of it\nfalse\n", Guest: guest}}},
	} {
		got, err := readChecks(t, tt.words...)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreUnexported(checks.Check{})); diff != "" {
			t.Errorf("%s: -want +got\n%s", tt.name, diff)
		}
	}
}

// Flags go over what the file says, where they were given.
func TestCheckFlagsOverAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	text := "checks:\n  - {name: a, run: x, memory: 2G, cpus: 4, timeout: 1m, append: one}\n  - {name: b, run: x}\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		words []string
		want  []checks.Guest
		limit time.Duration
	}{
		{nil, []checks.Guest{{Append: "one", Memory: 2 << 30, CPUs: 4}, {}}, time.Minute},
		{[]string{"--memory", "3G", "--cpus", "1", "--append", "two", "--timeout", "2m", "--init", "sh"},
			[]checks.Guest{{Append: "one two", Memory: 3 << 30, CPUs: 1, Direct: true},
				{Append: "two", Memory: 3 << 30, CPUs: 1, Direct: true}}, 2 * time.Minute},
		{[]string{"--only", "b"}, []checks.Guest{{}}, 0},
	} {
		list, err := readChecks(t, append([]string{file}, tt.words...)...)
		if err != nil {
			t.Fatal(err)
		}
		var got []checks.Guest
		for _, c := range list {
			got = append(got, c.Guest)
		}
		if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" || list[0].Timeout != tt.limit {
			t.Errorf("%q: %v, -want +got\n%s", tt.words, list[0].Timeout, diff)
		}
	}
}

// What helps with one of several places is said beside that one, and is no hint.
func TestProblemsHaveNoHint(t *testing.T) {
	a, read := testApp(t, table{})
	code := a.report(t.Context(), &checks.ProblemsError{Problems: []checks.Problem{
		{Err: &gdb.NoBreakError{Break: "vfs_raed", Msg: "no", Near: []string{"vfs_read"}}},
		{Err: errors.New("other")}}}, false)
	if _, stderr := read(); code != codeGuest || stderr != "kimg: break at vfs_raed: no\n  other\n" {
		t.Errorf("status %d, %q", code, stderr)
	}
}

func TestSeen(t *testing.T) {
	r := &vm.Result{Hit: true, Frames: []gdb.Frame{{Function: "f", File: "a.c", Line: 1}}, Task: "cat (pid 1)",
		Backtrace: []string{"#0 f"},
		Values:    []gdb.Value{{Expr: "x", Text: "1"}, {Expr: "y", Err: "no"}}, Ran: true, Status: 3, Log: "log",
		Console: []string{"last"}}
	three := 3
	want := checks.Seen{Stop: &checks.Stop{Frames: []checks.Frame{{Function: "f", File: "a.c", Line: 1}},
		Task: "cat (pid 1)", Backtrace: []string{"#0 f"}},
		Values: []checks.Value{{Expression: "x", Value: "1"}, {Expression: "y", Error: "no"}}, Status: &three,
		GDBLog: "log", Console: []string{"last"}}
	if diff := cmp.Diff(want, seen(r, nil)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for _, tt := range []struct {
		err   error
		guest bool
	}{
		{&vm.GuestError{What: "it hung"}, true}, {errors.Join(errors.New("x"), &vm.GuestError{}), true},
		{&gdb.EndedError{}, false}, {errors.New("no disk"), false},
	} {
		s := seen(&vm.Result{}, tt.err)
		if s.Guest != tt.guest || s.Err == nil || s.Stop != nil || s.Status != nil {
			t.Errorf("%v: %+v", tt.err, s)
		}
	}
}

func TestCheckVerdicts(t *testing.T) {
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	failed := func(causes ...checks.Cause) *checks.Report {
		r := &checks.Report{Failed: len(causes)}
		for _, c := range causes {
			r.Checks = append(r.Checks, checks.Outcome{Cause: c})
		}
		return r
	}
	for _, tt := range []struct {
		name   string
		ctx    context.Context
		report *checks.Report
		code   int
	}{
		{"all passed", t.Context(), failed(), 0},
		{"unmet", t.Context(), failed(checks.Unmet, checks.Unmet), codeUnmet},
		{"a guest failed", t.Context(), failed(checks.Unmet, checks.GuestFault, checks.Unmet), codeGuest},
		{"interrupted", interrupted, &checks.Report{Interrupted: true, Failed: 1}, codeInterrupted},
	} {
		a, read := testApp(t, table{})
		if code := a.report(tt.ctx, verdict(tt.ctx, tt.report), false); code != tt.code {
			t.Errorf("%s: status %d, want %d", tt.name, code, tt.code)
		}
		if stdout, stderr := read(); stdout != "" || stderr != "" && tt.code != codeInterrupted {
			t.Errorf("%s: it says %q, %q", tt.name, stdout, stderr)
		}
	}
}

// What cannot be recorded is refused before anything boots, with its line in the file.
func TestCheckUnrecordable(t *testing.T) {
	req := &checkRequest{record: checks.RecordFailed, file: "checks.yaml", list: []checks.Check{{}, {}}}
	box := vm.Options{Toolbox: toolbox.Container{}}
	two := box
	two.CPUs = 2
	wrong := req.unrecordable([]vm.Planned{
		{Options: two, Check: vm.Check{Command: []string{"true"}}}, {Options: box, Check: vm.Check{Break: "f"}}})
	for i, want := range []string{"one processor", "breakpoint"} {
		var refused *replay.RefusedError
		if !errors.As(wrong[i], &refused) || !strings.Contains(refused.What, want) {
			t.Errorf("%d: %v, want %s", i, wrong[i], want)
		}
	}
	if req.record = ""; req.unrecordable([]vm.Planned{{Options: two}}) != nil {
		t.Error("refused although nothing is to be recorded")
	}
	if _, err := readChecks(t, "--run", "true", "--record=some"); err == nil {
		t.Error("--record=some is taken")
	}
}

// Guests that have nothing of this machine's that another one could want meanwhile may run at once.
func TestInTheWay(t *testing.T) {
	for name, tt := range map[string]struct {
		o    vm.Options
		want bool
	}{
		"nothing":   {vm.Options{}, false},
		"read only": {vm.Options{Shares: []vm.Share{{Dir: "/a"}}}, false},
		"share":     {vm.Options{Shares: []vm.Share{{Dir: "/a"}, {Dir: "/b", Write: true}}}, true},
		"tap":       {vm.Options{Network: vm.Network{Mode: vm.TAPNet, TAP: "tap0"}}, true},
		"port":      {vm.Options{Network: vm.Network{Forwards: []qemu.Forward{{Host: 1, Guest: 1}}}}, true},
		"qemu-arg":  {vm.Options{QEMU: []string{"-s"}}, true},
	} {
		if got := inTheWay(vm.Planned{Options: tt.o}); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// The kimg that keeps a guest in the background gets flags that make the same guest of it.
func TestKeepArgs(t *testing.T) {
	dir := t.TempDir()
	var got runRequest
	a, _ := testApp(t, table{run: func(_ context.Context, _ builder.Env, req runRequest) error {
		got = req
		return nil
	}})
	for name, tt := range map[string]struct {
		o    vm.Options
		use  string
		k    vm.Keeping
		want vm.Options // as far as the flags say it
	}{
		"plain": {o: vm.Options{}, use: "command", k: vm.Keeping{Use: vm.ForCommand, Boot: 11 * time.Second}},
		"all": {o: vm.Options{Memory: 3 << 29, CPUs: 2, Append: "quiet loglevel=1", Direct: true,
			Network: vm.Network{Mode: vm.NoNet}}, use: forCheck, k: vm.Keeping{Use: vm.ForCommand, Index: true}},
		"console": {o: vm.Options{Direct: true, Session: "sh -c 'a b'"}, use: "command",
			k: vm.Keeping{Use: vm.ForConsole, Term: "xterm"}},
		"index": {o: vm.Options{}, use: forCheck, k: vm.Keeping{Index: true}},
		"slow":  {o: vm.Options{}, use: "command", k: vm.Keeping{Use: vm.ForCommand, Boot: 4 * time.Minute}},
	} {
		tt.o.Dir = dir
		root := a.root()
		args := keepArgs(tt.o, tt.use, tt.k)
		limit := map[bool]string{true: "21m0s", false: "5m0s"}[tt.k.Boot > time.Minute]
		if !slices.Contains(args, limit) {
			t.Errorf("%s: %q, want a limit of %s", name, args, limit)
		}
		root.SetArgs(args)
		if err := root.Execute(); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := tt.use
		switch tt.k.Use {
		case "":
			want = ""
		case vm.ForConsole:
			want = string(vm.ForConsole)
		}
		o := vm.Options{Dir: got.out, Memory: got.memory, CPUs: got.cpus, Append: got.append}
		var command []string
		if want != string(vm.ForConsole) {
			command = []string{"any"}
		}
		got.extras.apply(&o, command)
		if diff := cmp.Diff(tt.o, o, cmpopts.IgnoreUnexported(vm.Options{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
		if got.keep.use != want || got.keep.index != tt.k.Index || got.keep.took != tt.k.Boot ||
			got.timeout < time.Minute+5*tt.k.Boot {
			t.Errorf("%s: %+v, %v", name, got.keep, got.timeout)
		}
	}
}

// In CI the first guest itself is kept: what goes on after a job may be ended with it, or hold it up.
func TestKeepLater(t *testing.T) {
	for ci, itself := range map[string]bool{"": false, "true": true, "1": true, "false": false} {
		t.Setenv("CI", ci)
		var o vm.Options
		(&guest{}).keepLater(builder.Env{}, &o, forCheck)
		if o.KeepItself != itself || (o.Later == nil) != itself {
			t.Errorf("CI=%s: %v, %v", ci, o.KeepItself, o.Later != nil)
		}
	}
}

func TestKeepFlags(t *testing.T) {
	a, _ := testApp(t, table{run: func(context.Context, builder.Env, runRequest) error { return nil }})
	for _, words := range []string{"--keep nothing", "--keep command --write", "--keep command --snapshot a",
		"--keep command --share /tmp", "--keep command --cold", "--keep command --net tap:tap0",
		"--keep command --record a", "--keep command -- true"} {
		root := a.root()
		root.SetArgs(append([]string{"run", "--out", "x"}, strings.Fields(words)...))
		if err := root.Execute(); err == nil {
			t.Errorf("%s: no error", words)
		}
	}
}
