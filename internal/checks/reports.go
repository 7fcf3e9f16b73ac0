package checks

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/terminal"
	"github.com/mattn/go-runewidth"
)

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // & and < are C's
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return b.Bytes(), err
}

// JSON is the report as JSON.
func (r *Report) JSON() ([]byte, error) { return encode(r) }

// CheckReportFile is an error where a report could not be written. It makes the report's directory.
func CheckReportFile(name string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return err
	}
	info, err := os.Stat(name)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("write %s: it is not a file", name)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	probe, err := os.CreateTemp(filepath.Dir(name), ".kimg-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// WriteReport writes a report; an error leaves the old one.
func WriteReport(name string, b []byte) error {
	if err := renameio.WriteFile(name, b, 0o666); err != nil {
		return fmt.Errorf("write report %s: %w", name, err)
	}
	return nil
}

// Text reports on the checks as text: a line for each, details below it, and one line at the end.
type Text struct {
	W          io.Writer
	Names      []string // of all checks, for the width of their column
	Backtraces bool     // of checks that passed, too
	Paint      func(good bool, text string) string
}

// maxColumn is how wide the column of names may get.
const maxColumn = 40

// How much is shown of the console of a failure, and of each of a command's streams, in lines.
const (
	shownConsole = 30
	shownOutput  = 30
)

// Outcome reports on one check.
func (t *Text) Outcome(o Outcome) {
	width := 0
	for _, name := range t.Names {
		width = min(max(width, runewidth.StringWidth(progress.Clean(name))), maxColumn)
	}
	var b strings.Builder
	word, took, detail := "ok  ", progress.Duration(time.Duration(o.Seconds*float64(time.Second))), o.detail()
	switch o.Verdict {
	case Failed:
		word, detail = "FAIL", o.Reasons[0]
	case NotRun:
		word, detail = "-   ", o.Reasons[0]
		if o.Seconds == 0 { // else it had begun
			took, detail = "", "not run: "+detail
		}
	}
	if t.Paint != nil && o.Verdict != NotRun {
		word = t.Paint(o.Verdict == Passed, word)
	}
	name := runewidth.FillRight(progress.Clean(o.Name), width)
	fmt.Fprintf(&b, "%s  %s  %6s  %s\n", word, name, took, progress.Clean(detail))
	t.below(&b, o)
	_, _ = io.WriteString(t.W, b.String()) // there is nowhere to report an error
}

// indent is that of the details below a check's line.
const indent = "      "

func (t *Text) below(b *strings.Builder, o Outcome) {
	say := func(text string) { fmt.Fprintf(b, "%s%s\n", indent, progress.Clean(text)) }
	failed := o.Verdict == Failed
	if failed {
		for _, reason := range o.Reasons[1:] {
			say(reason)
		}
	}
	for _, line := range o.told() {
		say(line)
	}
	if o.Stop != nil && (failed || t.Backtraces) {
		for _, line := range o.Stop.Backtrace {
			say(line)
		}
	}
	for _, v := range o.Values {
		if v.Error == "" {
			for i, line := range strings.Split(v.Value, "\n") {
				if i == 0 {
					line = v.Expression + " = " + line
				}
				say(line)
			}
		}
	}
	if line := o.recorded(); line != "" {
		say(line)
	}
	if !failed {
		return
	}
	block := func(name string, lines []string, most int) {
		if more := len(lines) - most; more > 0 {
			lines = append([]string{fmt.Sprintf("[%d lines before these]", more)}, lines[more:]...)
		}
		for _, line := range lines {
			say(name + " | " + line)
		}
	}
	if o.Command != nil {
		block("stdout ", lines(o.Command.Stdout), shownOutput)
		block("stderr ", lines(o.Command.Stderr), shownOutput)
	}
	if o.Cause != Unmet && !o.ranToEnd() { // else the guest was well
		block("console", o.Console, shownConsole)
	}
}

func lines(text string) []string {
	if text = strings.TrimRight(text, "\n"); text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

func (o *Outcome) ranToEnd() bool { return o.Command != nil && o.Command.Status != nil }

func (o *Outcome) detail() string {
	switch {
	case o.Stop != nil:
		return o.Stop.String()
	case o.Command != nil:
		return "the command ended with status 0"
	}
	return ""
}

// Summary reports on all of them.
func (t *Text) Summary(r *Report) {
	n := len(r.Checks)
	parts := []string{fmt.Sprintf("%d passed", r.Passed)}
	if r.Failed > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", r.Failed))
	}
	if r.NotRun > 0 {
		parts = append(parts, fmt.Sprintf("%d not run", r.NotRun))
	}
	s := "s"
	if n == 1 {
		s = ""
	}
	fmt.Fprintf(t.W, "%d check%s: %s in %s\n", n, s, strings.Join(parts, ", "),
		progress.Duration(time.Duration(r.Seconds*float64(time.Second))))
}

// JUnit is the report in the form of JUnit's XML that Jenkins, GitLab and others
// read (the schema junit-10.xsd of Jenkins' xunit plugin). What kimg itself could
// not do is an error there; everything else that went wrong is a failure.
func (r *Report) JUnit() ([]byte, error) {
	suite := junitSuite{Name: xmlText(r.Suite), Time: fmt.Sprintf("%.3f", r.Seconds),
		Timestamp:  r.Started.Format("2006-01-02T15:04:05"),
		Properties: []junitProperty{{Name: "kimg", Value: xmlText(r.Kimg)}}}
	if r.Kernel != "" {
		suite.Properties = append(suite.Properties, junitProperty{Name: "kernel", Value: xmlText(r.Kernel)})
	}
	class := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(r.Suite), ".yaml"), ".yml")
	for _, o := range r.Checks {
		suite.add(o.testcase(xmlText(class)))
	}
	all := junitSuites{Time: suite.Time, Tests: suite.Tests, Errors: suite.Errors, Failures: suite.Failures,
		Suites: []junitSuite{suite}}
	b, err := xml.MarshalIndent(all, "", "  ")
	return append([]byte(xml.Header), append(b, '\n')...), err
}

type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Time     string       `xml:"time,attr,omitempty"` // seconds
	Tests    int          `xml:"tests,attr,omitempty"`
	Errors   int          `xml:"errors,attr,omitempty"`
	Failures int          `xml:"failures,attr,omitempty"`
	Suites   []junitSuite `xml:"testsuite,omitempty"`
}

type junitSuite struct {
	Name       string          `xml:"name,attr"`
	Tests      int             `xml:"tests,attr"`
	Failures   int             `xml:"failures,attr"`
	Errors     int             `xml:"errors,attr"`
	ID         int             `xml:"id,attr"`
	Skipped    int             `xml:"skipped,attr,omitempty"`
	Time       string          `xml:"time,attr"`
	Timestamp  string          `xml:"timestamp,attr,omitempty"`
	Properties []junitProperty `xml:"properties>property,omitempty"`
	Testcases  []junitTestcase `xml:"testcase,omitempty"`
}

func (s *junitSuite) add(tc junitTestcase) {
	s.Testcases = append(s.Testcases, tc)
	s.Tests++
	if tc.Error != nil {
		s.Errors++
	}
	if tc.Failure != nil {
		s.Failures++
	}
	if tc.Skipped != nil {
		s.Skipped++
	}
}

type junitProperty struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type junitTestcase struct {
	Name      string       `xml:"name,attr"`
	Classname string       `xml:"classname,attr"`
	Time      string       `xml:"time,attr,omitempty"`
	Skipped   *junitResult `xml:"skipped,omitempty"`
	Error     *junitResult `xml:"error,omitempty"`
	Failure   *junitResult `xml:"failure,omitempty"`
	SystemOut *junitOutput `xml:"system-out,omitempty"`
	SystemErr *junitOutput `xml:"system-err,omitempty"`
}

type junitResult struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Data    string `xml:",cdata"`
}

type junitOutput struct {
	Data string `xml:",cdata"`
}

func (o *Outcome) testcase(class string) junitTestcase {
	tc := junitTestcase{Name: xmlText(o.Name), Classname: class, Time: fmt.Sprintf("%.3f", o.Seconds)}
	reason := ""
	if len(o.Reasons) > 0 {
		reason = xmlText(progress.Clean(o.Reasons[0]))
	}
	switch {
	case o.Verdict == NotRun:
		tc.Skipped = &junitResult{Message: reason}
	case o.Cause == KimgFault:
		tc.Error = &junitResult{Message: reason, Type: string(o.Cause), Data: xmlText(o.why())}
	case o.Verdict == Failed:
		tc.Failure = &junitResult{Message: reason, Type: string(o.Cause), Data: xmlText(o.why())}
	}
	if text := o.found(); text != "" {
		tc.SystemOut = &junitOutput{Data: xmlText(text)}
	}
	if o.Command != nil && o.Command.Stderr != "" {
		tc.SystemErr = &junitOutput{Data: xmlText(o.Command.Stderr)}
	}
	return tc
}

// why is all that explains a failure.
func (o *Outcome) why() string {
	text := strings.Join(o.Reasons, "\n")
	if line := o.recorded(); line != "" {
		text += "\n" + line
	}
	if told := o.told(); len(told) > 0 {
		text += "\n\n" + strings.Join(told, "\n")
	}
	if o.Cause != Unmet && !o.ranToEnd() && len(o.Console) > 0 {
		text += "\n\nThe serial console's last lines:\n" + strings.Join(o.Console, "\n")
	}
	return text
}

// found is what the check found out, and what its command printed.
func (o *Outcome) found() string {
	var b strings.Builder
	if o.Stop != nil {
		fmt.Fprintf(&b, "%s\n", o.Stop)
		for _, line := range o.Stop.Backtrace {
			fmt.Fprintln(&b, line)
		}
	}
	for _, v := range o.Values {
		if v.Error == "" {
			fmt.Fprintf(&b, "%s = %s\n", v.Expression, v.Value)
		}
	}
	if o.Verdict == Passed {
		if line := o.recorded(); line != "" {
			fmt.Fprintln(&b, line)
		}
		for _, line := range o.told() {
			fmt.Fprintln(&b, line)
		}
	}
	if o.Command != nil {
		if b.Len() > 0 && o.Command.Stdout != "" {
			b.WriteByte('\n')
		}
		b.WriteString(o.Command.Stdout)
	}
	return b.String()
}

// xmlText leaves out what XML 1.0 cannot represent (its production [2] Char), and terminals' control sequences.
func xmlText(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t', r == '\n', r == '\r',
			' ' <= r && r <= 0xd7ff, 0xe000 <= r && r <= 0xfffd, 0x10000 <= r && r <= 0x10ffff:
			return r
		}
		return -1
	}, terminal.Strip(s))
}
