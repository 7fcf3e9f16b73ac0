package checks

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/jstemmer/go-junit-report/v2/junit"

	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/terminal"
)

// encode writes a value as JSON, for people too.
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

// JUnit is the report in the form of JUnit's XML that Jenkins, GitLab and others
// read (the schema junit-10.xsd of Jenkins' xunit plugin). What kimg itself could
// not do is an error there; all else that went wrong is a failure.
func (r *Report) JUnit() ([]byte, error) {
	suite := junit.Testsuite{Name: xmlText(r.Suite), Time: fmt.Sprintf("%.3f", r.Seconds),
		Timestamp: r.Started.Format("2006-01-02T15:04:05")}
	suite.AddProperty("kimg", xmlText(r.Kimg))
	if r.Kernel != "" {
		suite.AddProperty("kernel", xmlText(r.Kernel))
	}
	class := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(r.Suite), ".yaml"), ".yml")
	for _, o := range r.Checks {
		suite.AddTestcase(o.testcase(xmlText(class)))
	}
	var all junit.Testsuites
	all.AddSuite(suite)
	all.Time, all.Skipped = suite.Time, 0 // the schema knows no such attribute there
	b, err := xml.MarshalIndent(all, "", "  ")
	return append([]byte(xml.Header), append(b, '\n')...), err
}

func (o *Outcome) testcase(class string) junit.Testcase {
	tc := junit.Testcase{Name: xmlText(o.Name), Classname: class, Time: fmt.Sprintf("%.3f", o.Seconds)}
	reason := ""
	if len(o.Reasons) > 0 {
		reason = xmlText(progress.Clean(o.Reasons[0]))
	}
	switch {
	case o.Verdict == NotRun:
		tc.Skipped = &junit.Result{Message: reason}
	case o.Cause == KimgFault:
		tc.Error = &junit.Result{Message: reason, Type: string(o.Cause), Data: xmlText(o.why())}
	case o.Verdict == Failed:
		tc.Failure = &junit.Result{Message: reason, Type: string(o.Cause), Data: xmlText(o.why())}
	}
	if text := o.told(); text != "" {
		tc.SystemOut = &junit.Output{Data: xmlText(text)}
	}
	if o.Command != nil && o.Command.Stderr != "" {
		tc.SystemErr = &junit.Output{Data: xmlText(o.Command.Stderr)}
	}
	return tc
}

// why is all that tells of a failure.
func (o *Outcome) why() string {
	text := strings.Join(o.Reasons, "\n")
	if o.Cause != Unmet && !o.ranToEnd() && len(o.Console) > 0 {
		text += "\n\nThe serial console's last lines:\n" + strings.Join(o.Console, "\n")
	}
	return text
}

// told is what the check found out, and what its command printed.
func (o *Outcome) told() string {
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
	if o.Command != nil {
		if b.Len() > 0 && o.Command.Stdout != "" {
			b.WriteByte('\n')
		}
		b.WriteString(o.Command.Stdout)
	}
	return b.String()
}

// xmlText leaves out what XML 1.0 has no way to write (its production [2] Char),
// and a terminal's control sequences whole.
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

// CheckReportFile says before anything is run that a report could not be written,
// and makes its directory.
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

// WriteReport writes a report, beside its place first.
func WriteReport(name string, b []byte) error {
	if err := renameio.WriteFile(name, b, 0o666); err != nil {
		return fmt.Errorf("write report %s: %w", name, err)
	}
	return nil
}
