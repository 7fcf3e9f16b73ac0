package checks

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"

	"github.com/kimg/kimg/internal/progress"
)

// Text reports on the checks as text: a line for each, details below it, and one line at the end.
type Text struct {
	W          io.Writer
	Names      []string // of all checks, for the width of their column
	Backtraces bool     // of checks that passed, too
	Paint      func(good bool, text string) string
}

// maxColumn is how wide the column of names may get.
const maxColumn = 40

// shownConsole is how much of a console is shown of a failure, and shownOutput of
// each of a command's streams, in lines.
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
