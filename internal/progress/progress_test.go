package progress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
)

// recorder keeps the events it is given.
type recorder struct {
	mu     sync.Mutex
	events []Event
}

func (r *recorder) Emit(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *recorder) lines() []string {
	var out []string
	for _, e := range r.events {
		if e.Kind == Log {
			out = append(out, e.Text)
		}
	}
	return out
}

func TestLogSplitsLines(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	for _, tt := range []struct {
		name   string
		writes []string
		want   []string
	}{
		{"one line", []string{"a\n"}, []string{"a"}},
		{"in pieces", []string{"a", "b", "\nc\n"}, []string{"ab", "c"}},
		{"last line without an end", []string{"a\nb"}, []string{"a", "b"}},
		{"carriage returns", []string{"10%\r20%\r\ndone\n"}, []string{"10%", "20%", "done"}},
		{"empty lines", []string{"\n \na\n\n"}, []string{"a"}},
		{"a caret keeps its place", []string{"  int x = ;\n          ^  \n"}, []string{"  int x = ;", "          ^"}},
		{"longest line", []string{long + "\nend\n"}, []string{long, "end"}},
		{"too long by one", []string{long + "y\nend\n"}, []string{long, "y", "end"}},
		{"endless line", []string{long, long, "z"}, []string{long, long, "z"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var rec recorder
			var file bytes.Buffer
			task := Start(&rec, "s", "Step", LogTo(&file, "s.log"))
			w := task.Log()
			for _, s := range tt.writes {
				if n, err := io.WriteString(w, s); n != len(s) || err != nil {
					t.Fatalf("Write = %d, %v", n, err)
				}
			}
			task.End(false, nil)
			if got := rec.lines(); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", tt.want) {
				t.Errorf("lines\n%q, want\n%q", got, tt.want)
			}
			if got, want := file.String(), strings.Join(tt.writes, ""); got != want {
				t.Errorf("log file has %d bytes, want the %d that were written", len(got), len(want))
			}
		})
	}
}

func TestStreamsDoNotMixLines(t *testing.T) {
	var rec recorder
	var file bytes.Buffer // not safe for two writers: the race detector would tell
	task := Start(&rec, "s", "Step", LogTo(&file, ""))
	var wg sync.WaitGroup
	for _, letter := range []string{"a", "b"} {
		w := task.Log()
		wg.Go(func() {
			for range 100 {
				io.WriteString(w, letter)
				io.WriteString(w, letter+"\n")
				task.Add(1, 200, "lines")
			}
		})
	}
	wg.Wait()
	task.End(false, nil)
	var last int64
	for _, e := range rec.events {
		if e.Kind == Log && e.Text != "aa" && e.Text != "bb" {
			t.Fatalf("line %q is of two streams", e.Text)
		}
		if e.Kind == Amount {
			if e.Done <= last {
				t.Fatalf("amount %d after %d", e.Done, last)
			}
			last = e.Done
		}
	}
	if last != 200 {
		t.Errorf("last amount is %d, want all 200", last)
	}
}

func TestEnd(t *testing.T) {
	var rec recorder
	task := Start(&rec, "s", "Step", Why("why"), LogTo(nil, "s.log"))
	w := task.Log()
	task.End(false, fmt.Errorf("run step: %w", context.Canceled))
	task.End(false, nil)
	io.WriteString(w, "late\n")
	if n := len(rec.events); n != 2 {
		t.Fatalf("%d events, want a start and an end: %v", n, rec.events)
	}
	if e := rec.events[1]; !e.Stopped || e.Err == "" || e.LogFile != "s.log" {
		t.Errorf("end of a cancelled step is %+v", e)
	}

	failed := Start(&rec, "t", "Step")
	failed.End(false, errors.New("no"))
	if e := rec.events[3]; e.Stopped || e.Err != "no" {
		t.Errorf("end of a failed step is %+v", e)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestFullLogDiskIsAnError(t *testing.T) {
	task := Start(nil, "kernel", "Step", LogTo(full{}, ""))
	_, err := io.WriteString(task.Log(), "a\n")
	if err == nil || !strings.Contains(err.Error(), "write log of step kernel: no space left") {
		t.Errorf("error is %v", err)
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain ~ text":                   "plain ~ text",
		"\x1b[31mred\x1b[0m":             "red",
		"\x1b]0;title\aafter":            "after",
		"\x1b]52;c;ZXZpbA==\x1b\\x":      "x",
		"\x1b]0;never ended":             "",
		"\x1b[2J\x1b[Hgone":              "gone",
		"\x1bcreset":                     "reset",
		"\x1b(0line":                     "line",
		"\x1b":                           "",
		"bell\a back\b nul\x00 del\x7f":  "bell back nul del",
		"\u009b31mc1":                    "31mc1",
		"a\tb":                           "a       b",
		"a\nb\rc":                        "a b c",
		"bad \xff\xfe utf8":              "bad \ufffd utf8",
		"caf\u00e9 \u4e2d":               "caf\u00e9 \u4e2d",
		"\u202egnp.exe":                  "gnp.exe",
		"\x1bPdevice control\x1b\\after": "after",
	} {
		if got := Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("\x1b[31mred\x1b[0m\x1b]0;t\a\t\r\n\xff")
	f.Fuzz(func(t *testing.T, s string) {
		got := Clean(s)
		if strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) {
			t.Errorf("Clean(%q) = %q keeps a control character", s, got)
		}
		if again := Clean(got); again != got {
			t.Errorf("Clean(%q) is %q, and cleaned again %q", s, got, again)
		}
	})
}

// A library's user who wants no events gives no Sink.
func TestNoSinkIsSilence(t *testing.T) {
	Say(nil, "x")
	Warn(nil, "x")
	Cached(nil, "s", "Step")
	var file bytes.Buffer
	task := Start(nil, "s", "Step", Why("why"), LogTo(&file, "s.log"))
	task.Say("x")
	task.Warn("x")
	task.Add(1, 2, "files")
	io.WriteString(task.Log(), "a line\n")
	task.End(false, nil)
	if file.String() != "a line\n" {
		t.Errorf("the log has %q", file.String())
	}
}
