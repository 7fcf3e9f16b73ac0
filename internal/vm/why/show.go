package why

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
)

// Place is where the frame is in the source.
func (f Frame) Place() string {
	if f.File == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d", f.File, f.Line)
}

// Name is the frame's function.
func (f Frame) Name() string {
	if f.Function == "" {
		return "??"
	}
	return f.Function
}

// Headline is what the step shows, with the values that it is about.
func (s Step) Headline() string {
	text := s.What
	at := s.Address
	if s.Symbol != "" {
		at += " (" + s.Symbol + ")"
	}
	switch {
	case at != "" && s.Was != "":
		text += fmt.Sprintf(": %s got %s over %s", at, s.Value, s.Was)
	case at != "" && s.Value != "":
		text += fmt.Sprintf(": %s at %s", s.Value, at)
	case at != "":
		text += ": " + at
	}
	return text
}

// When is when the step was, and who ran.
func (s Step) When() string {
	if s.Icount == 0 {
		return "the beginning of the recording"
	}
	text := fmt.Sprintf("instruction %d, after %.6f s", s.Icount, s.Seconds)
	if s.Task != "" {
		text += ", in " + s.Task
	}
	return text
}

// Where is the step's innermost place in the source, and of a header's function who has it; empty: it is not known.
func (s Step) Where() string {
	where := ""
	for _, f := range s.Frames {
		switch header := strings.HasPrefix(f.File, "include/") || strings.Contains(f.File, "/include/"); {
		case f.File == "":
		case where == "":
			where = f.Name() + " at " + f.Place()
			if !header {
				return where
			}
		case !header:
			return where + ", in " + f.Name() + " at " + f.Place()
		}
	}
	return where
}

// Lines are a step for people, by its number.
func (s Step) Lines(n int) []string {
	lines := []string{fmt.Sprintf("%d. %s", n, s.Headline())}
	say := func(format string, args ...any) { lines = append(lines, "   "+fmt.Sprintf(format, args...)) }
	if where := s.Where(); where != "" {
		say("%s", where)
	}
	say("%s", s.When())
	if s.Instruction != "" {
		say("%s", s.Instruction)
	}
	for i, f := range s.Frames {
		say("#%d %s %s", i, f.Name(), f.Place())
		for _, l := range f.Locals {
			say("     %s = %s", l.Name, l.Value)
		}
	}
	return lines
}

// Title is what was asked.
func (a *Answer) Title() string {
	if a.Report != nil {
		return a.Report.String()
	}
	return "who wrote " + a.Expr
}

// Lines are the answer for people: what the kernel told, and each step.
func (a *Answer) Lines() (lines []string) {
	lines = []string{a.Title()}
	if a.Report != nil {
		lines = a.Report.Lines()
	}
	for i, s := range a.Steps {
		lines = append(append(lines, ""), s.Lines(i+1)...)
	}
	if len(a.Others) > 0 {
		lines = append(lines, "", "The kernel told of more:")
		for _, title := range a.Others {
			lines = append(lines, "   "+title)
		}
	}
	return lines
}

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"inc":  func(i int) int { return i + 1 },
	"join": strings.Join,
}).Parse(pageText))

// HTML writes the answer as one page, which needs nothing else.
func (a *Answer) HTML(w io.Writer) error {
	if err := page.Execute(w, a); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}
