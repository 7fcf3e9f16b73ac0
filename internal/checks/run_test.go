package checks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// fake is a guest that does what its check's name says.
func fake(cancel context.CancelFunc) func(context.Context, Check, Streams) Seen {
	return func(ctx context.Context, c Check, s Streams) Seen {
		status := 0
		fmt.Fprintf(s.Console, "boot of %s\n", c.Name)
		fmt.Fprint(s.Stdout, "out\xff\n")
		fmt.Fprint(s.Stderr, "err\n")
		switch c.Name {
		case "unmet":
			status = 3
		case "panic":
			return Seen{Err: errors.New("the guest's kernel panicked"), Guest: true, Console: []string{"Kernel panic"},
				GDBLog: "log"}
		case "fault":
			return Seen{Err: errors.New("gdb ended")}
		case "interrupt":
			cancel()
			<-ctx.Done()
			return Seen{Err: context.Cause(ctx)}
		}
		return Seen{Status: &status}
	}
}

func list(names ...string) []Check {
	var all []Check
	for _, n := range names {
		all = append(all, Check{Name: n, Run: "script"})
	}
	return all
}

func TestRun(t *testing.T) {
	for _, tt := range []struct {
		name     string
		list     []Check
		failFast bool
		verdicts string
		counts   [3]int
		cut      bool
	}{
		{"all go on after a failure", list("a", "panic", "fault", "unmet", "b"), false,
			"passed failed failed failed passed", [3]int{2, 3, 0}, false},
		{"the first failure is the last", list("a", "unmet", "panic", "b"), true, "passed failed not-run not-run",
			[3]int{1, 1, 2}, false},
		{"nothing fails", list("a", "b"), true, "passed passed", [3]int{2, 0, 0}, false},
		{"interrupted", list("a", "interrupt", "b"), false, "passed not-run not-run", [3]int{1, 0, 2}, true},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		var reported []string
		dir := t.TempDir()
		names := make([]string, len(tt.list))
		for i, c := range tt.list {
			names[i] = c.Name
		}
		keep, err := NewKeeper(dir, names)
		if err != nil {
			t.Fatal(err)
		}
		var console bytes.Buffer
		r := Runner{Guest: fake(cancel), FailFast: tt.failFast, Keep: keep,
			Ended: func(o Outcome) { reported = append(reported, string(o.Verdict)) },
			Begin: func(Check) io.Writer { return &console }}
		report, err := r.Run(ctx, tt.list)
		cancel()
		if err != nil || keep.Close() != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if got := strings.Join(reported, " "); got != tt.verdicts {
			t.Errorf("%s: reported %s, want %s", tt.name, got, tt.verdicts)
		}
		if got := [3]int{report.Passed, report.Failed, report.NotRun}; got != tt.counts ||
			report.Interrupted != tt.cut || len(report.Checks) != len(tt.list) {
			t.Errorf("%s: %v, interrupted %v", tt.name, got, report.Interrupted)
		}
		var want, have []string
		for _, o := range report.Checks {
			if o.Verdict != NotRun {
				want = append(want, o.Name)
			}
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			have = append(have, e.Name())
		}
		slices.Sort(want)
		if !cmp.Equal(want, have) {
			t.Errorf("%s: kept %q, want %q", tt.name, have, want)
		}
		if !strings.HasPrefix(console.String(), "boot of a\n") {
			t.Errorf("%s: the console said %q", tt.name, console.String())
		}
	}
}

// Guests that run at once: as many as there are jobs, and the report, what is told and what is kept are the same, in
// the same order, as if they came one after the other, whichever ends first.
func TestRunAtOnce(t *testing.T) {
	for _, failFast := range []bool{false, true} {
		run := func(jobs int) (*Report, []string, []string) {
			var names []string
			for i := range 12 {
				names = append(names, fmt.Sprintf("check-%02d", i))
			}
			names[7], names[9] = "unmet", "panic"
			dir := t.TempDir()
			keep, err := NewKeeper(dir, names)
			if err != nil {
				t.Fatal(err)
			}
			var now, most atomic.Int32
			begun, second, later := make(chan struct{}), make(chan struct{}), make(chan struct{})
			guest := fake(nil)
			var told []string
			r := Runner{Jobs: jobs, FailFast: failFast, Keep: keep,
				Ended: func(o Outcome) { told = append(told, o.Name+" "+string(o.Verdict)) },
				Guest: func(ctx context.Context, c Check, s Streams) Seen {
					n := now.Add(1)
					defer now.Add(-1)
					for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
					}
					switch { // the first one runs beside the next ones, and ends behind them
					case jobs == 1:
					case c.Name == names[0]:
						close(begun)
						<-second
						<-later
					case c.Name == names[1]:
						close(second)
						<-begun
					case c.Name == names[3]:
						close(later)
					}
					return guest(ctx, c, s)
				}}
			report, err := r.Run(t.Context(), list(names...))
			if err := errors.Join(err, keep.Close()); err != nil {
				t.Fatal(err)
			}
			if int(most.Load()) > jobs || jobs > 1 && most.Load() < 2 {
				t.Errorf("%d jobs: %d at once", jobs, most.Load())
			}
			for i := range report.Checks {
				report.Checks[i].Seconds = 0
			}
			report.Seconds, report.Started = 0, time.Time{}
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			var kept []string
			for _, e := range entries {
				kept = append(kept, e.Name())
			}
			return report, told, kept
		}
		report, told, kept := run(1)
		for _, jobs := range []int{2, 5, 50} {
			r, to, k := run(jobs)
			if diff := cmp.Diff(report, r, cmpopts.IgnoreUnexported(Outcome{}, Report{})) +
				cmp.Diff(told, to) + cmp.Diff(kept, k); diff != "" {
				t.Errorf("%d jobs, fail-fast %v: %s", jobs, failFast, diff)
			}
		}
	}
}

// What is kept is byte for byte what the guest said.
func TestKeep(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "reports")
	for range 2 { // a second run replaces what the first left
		keep, err := NewKeeper(dir, []string{"panic", "a"})
		if err != nil {
			t.Fatal(err)
		}
		checks := []Check{{Name: "panic", Break: "f", Run: "x"}, {Name: "a", Run: "x"}}
		if _, err := (&Runner{Guest: fake(nil), Keep: keep}).Run(t.Context(), checks); err != nil {
			t.Fatal(err)
		}
		if err := keep.Close(); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range []string{"panic/console.log", "panic/gdb.log", "panic/stdout", "panic/stderr",
			"a/console.log", "a/stdout"} {
			b, err := os.ReadFile(filepath.Join(dir, f))
			if err != nil {
				t.Error(err)
			}
			got = append(got, string(b))
		}
		if want := []string{"boot of panic\n", "log", "out\xff\n", "err\n", "boot of a\n",
			"out\xff\n"}; !cmp.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		b, err := os.ReadFile(filepath.Join(dir, "panic", outcomeFile))
		if err != nil || !strings.Contains(string(b), `"cause": "guest"`) {
			t.Errorf("%s, %v", b, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "a", gdbFile)); err == nil {
			t.Error("a check without a breakpoint has a gdb log")
		}
	}
}

func TestKeepRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "src"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "src", "main.c"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := NewKeeper(dir, []string{"src"}); err == nil ||
		!strings.Contains(err.Error(), "main.c is there and kimg did not make it") {
		t.Errorf("%v", err)
	}
	one, err := NewKeeper(dir, []string{"a"}) // the refusal has let go of the directory
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewKeeper(dir, []string{"b"}); err == nil || !strings.Contains(err.Error(), "another kimg") {
		t.Errorf("two at once: %v", err)
	}
	if err := one.Close(); err != nil {
		t.Error(err)
	}
	if _, err := NewKeeper(filepath.Join(dir, "src", "main.c"), nil); err == nil {
		t.Error("a file was taken for a directory")
	}
}

// What a kimg that was killed left is taken away by the next.
func TestKeepAfterAKill(t *testing.T) {
	dir := t.TempDir()
	for _, left := range []string{".a.kimg-new/console.log", ".a.kimg-old/console.log"} {
		name := filepath.Join(dir, left)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755),
			os.WriteFile(name, []byte("half"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	keep, err := NewKeeper(dir, []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	defer keep.Close()
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("left: %v", entries)
	}
	if _, err := (&Runner{Guest: fake(nil), Keep: keep}).Run(t.Context(), list("a")); err != nil {
		t.Error(err)
	}
}

// A report that cannot be written is an error, and does not disturb the guest.
func TestKeepWithoutRoom(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full here")
	}
	keep, err := NewKeeper(t.TempDir(), []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	defer keep.Close()
	r := Runner{Keep: keep, Guest: func(_ context.Context, _ Check, s Streams) Seen {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		s.Console.(*both).b.(*keptFile).file.Close()
		s.Console.(*both).b.(*keptFile).file = full
		if n, err := s.Console.Write([]byte("words")); n != 5 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		return Seen{Status: new(int)}
	}}
	report, err := r.Run(t.Context(), list("a"))
	if err == nil || !strings.Contains(err.Error(), "keep check a: ") || report.Passed != 1 {
		t.Errorf("%v, %+v", err, report)
	}
	if entries, _ := os.ReadDir(keep.dir); len(entries) > 0 {
		t.Errorf("half a report is there: %v", entries)
	}
}

func TestDirectories(t *testing.T) {
	names := []string{"stop in vfs_read", "stop-in vfs_read", "Stop in VFS_read", "../../etc/passwd", "/", "..",
		".hidden", "a\x00b", "ü", strings.Repeat("x", 300)}
	want := []string{"stop-in-vfs_read", "stop-in-vfs_read-2", "Stop-in-VFS_read-3", "etc-passwd", "check", "check-2",
		"hidden", "a-b", "check-3", strings.Repeat("x", 100)}
	got := directories(names)
	for i, name := range names {
		if got[name] != want[i] {
			t.Errorf("%q: %q, want %q", name, got[name], want[i])
		}
	}
}

func FuzzDirectories(f *testing.F) {
	f.Add("a", "A")
	f.Add("..", "a/../b")
	f.Fuzz(func(t *testing.T, a, b string) {
		got := directories([]string{a, b})
		if a != b && strings.EqualFold(got[a], got[b]) {
			t.Errorf("%q and %q have the directory %q", a, b, got[a])
		}
		for _, dir := range got {
			if !filepath.IsLocal(dir) || strings.ContainsAny(dir, `/\`) || strings.HasPrefix(dir, ".") ||
				len(dir) > maxDirectory+5 {
				t.Errorf("directory %q", dir)
			}
		}
	})
}

func TestLast(t *testing.T) {
	l := &last{}
	fmt.Fprint(l, "first\xff\n")
	if got := l.text(); got != "first\ufffd\n" {
		t.Errorf("%q", got)
	}
	line := strings.Repeat("y", 99) + "\n"
	for range 10 * maxShown / len(line) {
		fmt.Fprint(l, line)
	}
	got := l.text()
	if rest, ok := strings.CutPrefix(got, "[...]\n"); !ok || len(got) > maxShown+10 ||
		strings.ReplaceAll(rest, line, "") != "" {
		t.Errorf("%d bytes: %q", len(got), got[:20])
	}
}

func TestKeptFileIsBounded(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	f := &keptFile{file: file, size: maxKept - 3}
	for range 3 {
		if n, err := f.Write([]byte("abc")); n != 3 || err != nil {
			t.Fatal(n, err)
		}
	}
	f.close()
	if b, err := os.ReadFile(file.Name()); err != nil || string(b) != "abc\n[kimg keeps no more than this]\n" ||
		f.err != nil {
		t.Errorf("%q, %v, %v", b, err, f.err)
	}
}

func TestWriteReport(t *testing.T) {
	name := filepath.Join(t.TempDir(), "new", "r.json")
	if err := CheckReportFile(name); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(name)); len(entries) > 0 {
		t.Errorf("the look left %v", entries)
	}
	if err := WriteReport(name, []byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{filepath.Dir(name), filepath.Join(name, "below")} {
		if err := CheckReportFile(bad); err == nil {
			t.Errorf("%s can be written, it says", bad)
		}
	}
}

// tape is a recording that notes what becomes of it.
type tape struct {
	name            string
	discarded, thin bool
	explained       bool
	err             error
}

func (t *tape) Name() string    { return t.name }
func (t *tape) Explained() bool { return t.explained }

func (t *tape) Discard() error {
	t.discarded = true
	return nil
}

func (t *tape) Export(_ context.Context, to io.Writer, thin bool) error {
	t.thin = thin
	_, err := io.WriteString(to, "all of "+t.name)
	return errors.Join(err, t.err)
}

// A recording stays where its check failed, or all are to stay; it is then beside the report as well.
func TestRecordings(t *testing.T) {
	for _, tt := range []struct {
		records Records
		status  int
		stays   bool
	}{{RecordFailed, 0, false}, {RecordFailed, 1, true}, {RecordAll, 0, true}, {RecordAll, 1, true}} {
		keep, err := NewKeeper(t.TempDir(), []string{"a"})
		if err != nil {
			t.Fatal(err)
		}
		made := &tape{name: "check-a", explained: tt.status == 0}
		r := Runner{Keep: keep, Record: tt.records, Guest: func(context.Context, Check, Streams) Seen {
			return Seen{Status: &tt.status, Recording: made}
		}}
		report, err := r.Run(t.Context(), list("a"))
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(keep.dir, "a", recordingFile))
		if made.discarded == tt.stays || (err == nil) != tt.stays || (report.Checks[0].Recording != "") != tt.stays {
			t.Errorf("%+v: %+v, %q, %v", tt, report.Checks[0], text, err)
		}
		if line := report.Checks[0].recorded(); tt.stays && strings.Contains(line, "kimg why") != made.explained {
			t.Errorf("%+v: %s", tt, line)
		}
		if tt.stays && (string(text) != "all of check-a" || made.thin) {
			t.Errorf("%+v: %q", tt, text)
		}
		if err := keep.Close(); err != nil {
			t.Error(err)
		}
		again, err := NewKeeper(keep.dir, []string{"a"}) // a later run may replace it
		if err != nil {
			t.Fatal(err)
		}
		again.Close()
	}
	ctx, cancel := context.WithCancel(t.Context())
	made := &tape{}
	r := Runner{Record: RecordAll, Guest: func(context.Context, Check, Streams) Seen {
		cancel()
		return Seen{Err: context.Canceled, Recording: made}
	}}
	if _, err := r.Run(ctx, list("a")); err != nil || !made.discarded {
		t.Errorf("of a check that was interrupted: %+v, %v", made, err)
	}
}

// A recording that cannot be written leaves no half a report.
func TestRecordingWithoutRoom(t *testing.T) {
	keep, err := NewKeeper(t.TempDir(), []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	defer keep.Close()
	full := errors.New("no room")
	r := Runner{Keep: keep, Record: RecordAll, Guest: func(context.Context, Check, Streams) Seen {
		return Seen{Status: new(int), Recording: &tape{name: "b", err: full}}
	}}
	if _, err := r.Run(t.Context(), list("a")); !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
	if entries, _ := os.ReadDir(keep.dir); len(entries) > 0 {
		t.Errorf("half a report is there: %v", entries)
	}
}

func TestRecordingNames(t *testing.T) {
	names := RecordingNames([]string{"boots", "../x", "X"})
	if names["boots"] != "check-boots" || names["../x"] != "check-x" || names["X"] != "check-X-2" {
		t.Errorf("%v", names)
	}
}
