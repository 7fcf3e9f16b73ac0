package checks

import (
	"encoding/xml"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/kimg/kimg/internal/progress"
	"github.com/kimg/kimg/internal/terminal"
)

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
	if o.Command != nil {
		if b.Len() > 0 && o.Command.Stdout != "" {
			b.WriteByte('\n')
		}
		b.WriteString(o.Command.Stdout)
	}
	return b.String()
}

// xmlText leaves out what XML 1.0 cannot represent (its production [2] Char), and
// whole control sequences of terminals.
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
