package progress

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

var epoch = time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return epoch.Add(time.Duration(seconds * float64(time.Second))) }

// build is the events of a small build that fails.
func build() []Event {
	events := []Event{
		{Kind: Started, Time: at(0), Step: "toolchain", Title: "Toolchain trixie"},
		{Kind: Ended, Time: at(0), Step: "toolchain", Title: "Toolchain trixie", Cached: true},
		{Kind: Notice, Time: at(0), Text: "6.12.57 -> trixie, gcc-14: what Debian builds it with"},
		{Kind: Started, Time: at(1), Step: "kernel", Title: "Kernel 6.12.57", Why: "config changed"},
		{Kind: Started, Time: at(1), Step: "rootfs", Title: "Root filesystem"},
		{Kind: Amount, Time: at(2), Step: "rootfs", Done: 12_500_000, Total: 50_000_000, Unit: "bytes"},
		{Kind: Warning, Time: at(3), Text: "the mirror is slow\nuse another with --mirror"},
	}
	for i := range 25 {
		events = append(events, Event{Kind: Log, Time: at(4 + float64(i)), Step: "kernel",
			Text: fmt.Sprintf("  CC      fs/file%d.o", i)})
	}
	return append(events,
		Event{Kind: Log, Time: at(62), Step: "kernel", Text: "\x1b[31mfs/open.c:3:1: error: no\x1b[0m"},
		Event{Kind: Amount, Time: at(62), Step: "kernel", Done: 1200, Total: 3000, Unit: "objects"},
		Event{Kind: Ended, Time: at(63), Step: "kernel", Title: "Kernel 6.12.57", Err: "exit status 2",
			LogFile: "/c/logs/kernel.log", Elapsed: 62 * time.Second},
		Event{Kind: Ended, Time: at(63), Step: "rootfs", Title: "Root filesystem", Err: "context canceled",
			Stopped: true, Elapsed: 62 * time.Second},
		Event{Kind: Log, Time: at(64), Step: "rootfs", Text: "late"},
	)
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (go test -update rewrites it; -want +got):\n%s", file, diff)
	}
}

func TestPlain(t *testing.T) {
	var b bytes.Buffer
	p := &plain{w: &b}
	for _, e := range build() {
		p.Emit(e)
	}
	golden(t, "plain.txt", b.String())
}

func TestQuiet(t *testing.T) {
	var b bytes.Buffer
	p := &plain{w: &b, quiet: true}
	for _, e := range build() {
		p.Emit(e)
	}
	golden(t, "quiet.txt", b.String())
}

func TestJSON(t *testing.T) {
	file := filepath.Join(t.TempDir(), "events")
	w, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r, err := New("json", w)
	if err != nil {
		t.Fatal(err)
	}
	want := build()
	for _, e := range want {
		r.Emit(e)
	}
	r.Close()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got []Event
	for line := range strings.Lines(string(text)) {
		var e Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		got = append(got, e)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if bytes.ContainsRune(text, 0x1b) {
		t.Error("an escape character reached the output as it is")
	}
}

func TestNew(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if r, err := New("auto", file); err != nil {
		t.Error(err)
	} else if _, ok := r.(*plain); !ok {
		t.Errorf("auto on a file is %T, want plain", r)
	}
	if _, err := New("live", file); err == nil || !strings.Contains(err.Error(), "is not a terminal") {
		t.Errorf("live on a file: %v", err)
	}
	if _, err := New("loud", file); err == nil || !strings.Contains(err.Error(), "auto, live, plain, json, quiet") {
		t.Errorf("unknown mode: %v", err)
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second:             "0.0s",
		90 * time.Millisecond:    "0.0s",
		9999 * time.Millisecond:  "9.9s",
		10 * time.Second:         "10s",
		59900 * time.Millisecond: "59s",
		time.Minute:              "1m00s",
		3599 * time.Second:       "59m59s",
		62 * time.Minute:         "1h02m",
	} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestAmount(t *testing.T) {
	for want, e := range map[string]Event{
		"":                      {},
		"7 files":               {Done: 7, Unit: "files"},
		"12.5 MB":               {Done: 12_500_000, Unit: "bytes"},
		"12.5/50.0 MB 25%":      {Done: 12_500_000, Total: 50_000_000, Unit: "bytes"},
		"2999/3000 objects 99%": {Done: 2999, Total: 3000, Unit: "objects"},
		"4/3 objects 100%":      {Done: 4, Total: 3, Unit: "objects"},
	} {
		if got := amount(e); got != want {
			t.Errorf("amount(%v) = %q, want %q", e, got, want)
		}
	}
}

// wholeError is an error that the log has nothing to add to.
type wholeError struct{}

func (wholeError) Error() string { return "KASAN=y is n" }
func (wholeError) TellsAll()     {}

// An error that tells all is not below the last lines of its step.
func TestWholeErrorWithoutLog(t *testing.T) {
	for err, want := range map[error]bool{fmt.Errorf("configure: %w", wholeError{}): false, os.ErrExist: true} {
		var plainOut, liveOut bytes.Buffer
		p := &plain{w: &plainOut}
		l := newLive(&liveOut, func() (int, int) { return 80, 24 }, style{}, 0)
		for _, r := range []Renderer{p, l} {
			task := Start(r, "kernel", "Kernel", LogTo(&bytes.Buffer{}, "/c/logs/kernel.log"))
			fmt.Fprintln(task.Log(), "make: Entering directory")
			task.End(false, err)
			r.Close()
		}
		for _, got := range []string{plainOut.String(), liveOut.String()} {
			if !strings.Contains(got, "FAILED") || strings.Contains(got, "make: Entering") != want ||
				strings.Contains(got, "kernel.log") != want {
				t.Errorf("%v: %q", err, got)
			}
		}
	}
}
