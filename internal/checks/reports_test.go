package checks

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares text with a file of testdata.
func golden(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s: -file +now\n%s", file, diff)
	}
}

// example is a report with one of each kind.
func example() *Report {
	zero, three := 0, 3
	r := &Report{Version: reportVersion, Kimg: "v1.2.3", Suite: "ci/checks.yaml", Kernel: "6.12.57", Seconds: 192.345,
		Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	stop := &Stop{Task: "cat (pid 82)", Frames: []Frame{{"version_proc_show", "fs/proc/version.c", 15},
		{"seq_read_iter", "fs/seq_file.c", 230}, {}},
		Backtrace: []string{"#0  version_proc_show (m=0xffff888002fa3000, v=0x1) at fs/proc/version.c:15",
			"#1  0xffffffff8112324b in seq_read_iter (iocb=<optimized out>) at fs/seq_file.c:230", "#2  0x0 in ?? ()"}}
	version := Check{Name: "version is shown", Break: "version_proc_show", When: WhenRun, Run: "cat /proc/version",
		Expect: []Expectation{{Function: "seq_read_iter"}, {File: "version.c", Line: 15}}}
	passed := judge(version, Seen{Stop: stop, Status: &zero,
		Values: []Value{{Expression: "*current", Value: "{a = 1,\n b = \"<&]]>\"}"}}})
	passed.Command.Stdout, passed.Seconds, passed.Directory = "Linux version 6.12\n", 31.2, "version-is-shown"
	r.add(passed)

	version.Name, version.Expect = "stops elsewhere", []Expectation{{File: "fs/open.c", Line: 1}}
	unmet := judge(version, Seen{Stop: stop, Status: &three,
		Values:  []Value{{Expression: "nosuch", Error: `No symbol "nosuch" in current context`}},
		Console: []string{"quiet"}})
	unmet.Command.Stdout, unmet.Command.Stderr, unmet.Seconds = "a\x1b[31mb\x00c]]>d\n", "cat: no\n", 32
	r.add(unmet)

	panicked := judge(Check{Name: "panics \x1b[2J<&\">", Break: "f", When: AtBoot}, Seen{Guest: true,
		Err:     errors.New("the guest's kernel panicked: VFS: Unable to mount root fs"),
		Console: []string{"first", "Kernel panic - not syncing: VFS"}})
	panicked.Seconds, panicked.Recording = 129.1, "check-panics"
	r.add(panicked)
	r.add(judge(Check{Name: "gdb dies", Break: "f", When: AtBoot}, Seen{Err: errors.New("gdb ended: signal: killed")}))
	r.add(notRun(Check{Name: "later", Run: "true"}, "a check before it failed"))
	cut := notRun(Check{Name: "cut off", Run: "true"}, reasonInterrupted)
	cut.Seconds = 1.5
	r.add(cut)
	return r
}

func TestReports(t *testing.T) {
	r := example()
	b, err := r.JSON()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "report.json", string(b))
	if b, err = r.JUnit(); err != nil {
		t.Fatal(err)
	}
	golden(t, "junit.xml", string(b))
	likeJenkins(t, b)

	var text strings.Builder
	w := &Text{W: &text}
	for _, o := range r.Checks {
		w.Names = append(w.Names, o.Name)
	}
	for _, o := range r.Checks {
		w.Outcome(o)
	}
	w.Summary(r)
	golden(t, "text.txt", text.String())

	text.Reset()
	w = &Text{W: &text, Backtraces: true, Names: []string{"x"},
		Paint: func(good bool, s string) string { return map[bool]string{true: "+", false: "!"}[good] + s }}
	w.Outcome(r.Checks[0])
	w.Outcome(r.Checks[3])
	golden(t, "backtrace.txt", text.String())
}

// likeJenkins holds XML against what the schema junit-10.xsd of Jenkins' xunit plugin
// allows: which elements are in which, and their attributes.
func likeJenkins(t *testing.T, b []byte) {
	t.Helper()
	type element struct{ in, attributes string }
	schema := map[string]element{
		"testsuites": {"", "name time tests failures errors"},
		"testsuite": {"testsuites testsuite",
			"name tests failures errors group time skipped timestamp hostname id package file log url"},
		"properties": {"testsuite", ""},
		"property":   {"properties", "name value"},
		"testcase":   {"testsuite", "name time classname group"},
		"skipped":    {"testcase", "type message"},
		"error":      {"testcase", "type message"},
		"failure":    {"testcase", "type message"},
		"system-out": {"testcase testsuite", ""},
		"system-err": {"testcase testsuite", ""},
	}
	in, seen := []string{""}, 0
	for dec := xml.NewDecoder(strings.NewReader(string(b))); ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			seen++
			name := token.Name.Local
			e, ok := schema[name]
			if !ok || !slices.Contains(append(strings.Fields(e.in), map[bool]string{true: ""}[e.in == ""]),
				in[len(in)-1]) {
				t.Errorf("%s in %q", name, in)
			}
			for _, a := range token.Attr {
				if !slices.Contains(strings.Fields(e.attributes), a.Name.Local) {
					t.Errorf("%s has the attribute %s", name, a.Name.Local)
				}
			}
			in = append(in, name)
		case xml.EndElement:
			in = in[:len(in)-1]
		}
	}
	if seen < 5 {
		t.Errorf("only %d elements", seen)
	}
}

// FuzzJUnit: whatever a guest says, the report is XML that says it.
func FuzzJUnit(f *testing.F) {
	f.Add("name", "\x1b[31mred\x00 ]]> \xff \ufffe", "<reason & \"more\"\n")
	f.Fuzz(func(t *testing.T, name, out, reason string) {
		r := &Report{}
		o := judge(Check{Name: name, Run: "x"}, Seen{Err: errors.New(reason), Guest: true, Console: []string{out}})
		o.Command.Stdout, o.Command.Stderr = out, out
		r.add(o)
		b, err := r.JUnit()
		if err != nil {
			t.Fatal(err)
		}
		var back struct {
			Suite struct {
				Case struct {
					Name string `xml:"name,attr"`
					Out  string `xml:"system-out"`
				} `xml:"testcase"`
			} `xml:"testsuite"`
		}
		if err := xml.Unmarshal(b, &back); err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		lines := func(s string) string { return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n") }
		if got, want := back.Suite.Case.Out, lines(xmlText(out)); got != want {
			t.Errorf("it says %q, want %q", got, want)
		}
	})
}

// A console is shown where it may say why: its end, and not of a guest that was well.
func TestTextOfAConsole(t *testing.T) {
	console := make([]string, 40)
	for i := range console {
		console[i] = "line"
	}
	five := 5
	c := Check{Name: "c", Break: "f", When: WhenRun, Run: "x"}
	for _, tt := range []struct {
		seen  Seen
		lines int
		says  string
	}{
		{Seen{Err: errors.New("it hung"), Guest: true}, 30, "console | [10 lines before these]\n"},
		{Seen{Err: errors.New("not reached"), Guest: true, Status: &five}, 0,
			"not reached\n      the command ended with status 5\n"},
		{Seen{Stop: &Stop{}, Status: &five}, 0, "the command ended with status 5\n"},
	} {
		tt.seen.Console = console
		var text strings.Builder
		(&Text{W: &text}).Outcome(judge(c, tt.seen))
		if n := strings.Count(text.String(), "| line\n"); n != tt.lines || !strings.Contains(text.String(), tt.says) {
			t.Errorf("%d lines:\n%s", n, text.String())
		}
	}
}

// A title that a command sets is no part of its output.
func TestXMLTextHasNoSequences(t *testing.T) {
	const in = "\x1b]0;a title\aone\x1b[1m two\x1b[0m\n\x1b]0;another\x1b\\three\x00"
	if got, want := xmlText(in), "one two\nthree"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
