package diffs

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// MaxStrip bounds -p.
const MaxStrip = 32

// Parse reads a patch: unified diffs, of git or of diff, with any text around them,
// as in a mail. name is what errors call it; strip is -p. A patch that changes nothing
// is an error, and so is a change that cannot be made: none is left out silently.
func Parse(name, text string, strip int) ([]File, error) {
	if strip < 0 || strip > MaxStrip {
		return nil, &Error{name, 0, fmt.Errorf("-p%d: want -p0 to -p%d", strip, MaxStrip)}
	}
	if strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff") {
		return nil, &Error{name, 0, errors.New("it is in UTF-16, as PowerShell's \">\" writes: " +
			"make it with git diff --output=FILE")}
	}
	if strings.ContainsRune(text, 0) {
		return nil, &Error{name, 0, errors.New("it is not a text: is it compressed?")}
	}
	p := &parser{lines: strings.SplitAfter(text, "\n"), strip: strip}
	if n := len(p.lines) - 1; p.lines[n] == "" {
		p.lines = p.lines[:n]
	} else {
		p.lines[n] += "\n"
	}
	// Where every line ends so a mail or an editor of Windows made it so; GNU patch judges by the headers alone.
	if n := strings.Count(text, "\r\n"); n > 0 && n == strings.Count(text, "\n") {
		for i, l := range p.lines {
			p.lines[i] = strings.TrimSuffix(strings.TrimSuffix(l, "\n"), "\r") + "\n"
		}
	}
	for p.at < len(p.lines) {
		if err := p.next(); err != nil {
			return nil, &Error{name, p.at + 1, err}
		}
	}
	if len(p.files) == 0 {
		return nil, &Error{name, 0, nothing(text)}
	}
	return p.files, nil
}

// nothing says why a text has no change in it.
func nothing(text string) error {
	switch {
	case strings.Contains(text, "\x1b["):
		return errors.New("it has a terminal's colours in it: make it with git diff --no-color")
	case quotedRE.MatchString(text):
		return errors.New("it is quoted with \"> \", as in a reply: take the mail that it answers")
	case combinedRE.MatchString(text):
		return errors.New("it is git's view of a merge, which is no change: make it with git diff COMMIT^1 COMMIT")
	case indentedRE.MatchString(text):
		return errors.New("all its lines are indented, as a page shows them: save the raw patch")
	case htmlRE.MatchString(text):
		return errors.New("it is a web page: save the raw patch")
	}
	return errors.New("it changes nothing: want a unified diff, as git diff and diff -u write it")
}

var (
	quotedRE   = regexp.MustCompile(`(?m)^> ?(diff |@@ -|\+\+\+ )`)
	indentedRE = regexp.MustCompile(`(?m)^[ \t]+@@ -\d`)
	combinedRE = regexp.MustCompile(`(?m)^diff --(cc|combined) `)
	htmlRE     = regexp.MustCompile(`(?i)^\s*<(!doctype html|html)\b`)
)

var errBinary = errors.New("it changes a binary file, which cannot be done")

type parser struct {
	lines []string
	at    int
	strip int
	files []File
}

// line is the line ahead of the next one by so many, without its end; "" beyond the last.
func (p *parser) line(ahead int) string {
	if p.at+ahead >= len(p.lines) {
		return ""
	}
	return strings.TrimRight(p.lines[p.at+ahead], "\r\n")
}

func (p *parser) next() error {
	line := p.line(0)
	switch {
	case strings.HasPrefix(line, "diff --git "):
		return p.git()
	case strings.HasPrefix(line, "--- ") && strings.HasPrefix(p.line(1), "+++ ") && hunkRE.MatchString(p.line(2)):
		return p.plain()
	case hunkRE.MatchString(line):
		return errors.New("a hunk without the names of its file before it")
	case strings.HasPrefix(line, "Binary files ") && strings.HasSuffix(line, " differ"):
		return errBinary
	case line == "***************":
		return errors.New("a context diff: want a unified one, as diff -u and git diff write it")
	}
	p.at++
	return nil
}

func (p *parser) plain() error {
	f := File{Op: Modify, Mode: SameMode, Line: p.at + 1}
	old, noOld, err := headerName(p.line(0)[4:])
	if err != nil {
		return err
	}
	now, noNew, err := headerName(p.line(1)[4:])
	if err != nil {
		return err
	}
	switch {
	case old == devNull && now == devNull:
		return errors.New("neither of its names is a file")
	case old == devNull || noOld:
		f.Op = Create
		f.To, err = treePath(now, p.strip)
	case now == devNull || noNew:
		f.Op = Delete
		f.To, err = treePath(old, p.strip)
	default:
		f.To, err = p.one(old, now)
	}
	if err != nil {
		return err
	}
	f.From = f.To
	p.at += 2
	return p.hunks(f)
}

// one is the file that two names are about: the second one, where the first is a kept copy of it.
func (p *parser) one(old, now string) (string, error) {
	a, err1 := treePath(old, p.strip)
	b, err2 := treePath(now, p.strip)
	if err := errors.Join(err1, err2); err != nil {
		return "", errors.Join(err1, err2)
	}
	switch {
	case a == b, a == b+".orig", a == b+".old", a == b+".bak", a == b+"~":
		return b, nil
	}
	return "", fmt.Errorf("it names two files, %s and %s: is its -p right?", a, b)
}

func (p *parser) git() error {
	f := File{Op: Modify, Mode: SameMode, Line: p.at + 1}
	names := strings.TrimPrefix(p.line(0), "diff --git ")
	from, to := "", "" // as "rename" and "copy" lines tell them, which git writes without a/ and b/
	for p.at++; p.at < len(p.lines); p.at++ {
		line := p.line(0)
		word, value, err := extended(line)
		if err != nil {
			return err
		}
		switch word {
		case "old mode":
			err = f.mode(value, false)
		case "new mode":
			err = f.mode(value, true)
		case "new file mode":
			f.Op, err = Create, f.mode(value, true)
		case "deleted file mode":
			f.Op, err = Delete, f.mode(value, false)
		case "rename from":
			f.Op, from = Rename, value
		case "copy from":
			f.Op, from = Copy, value
		case "rename to", "copy to":
			to = value
		case "index":
			if _, mode, ok := strings.Cut(value, " "); ok {
				err = f.mode(mode, false)
			}
		case "similarity index", "dissimilarity index":
		case "binary":
			return errBinary
		default:
			return p.gitBody(f, names, from, to)
		}
		if err != nil {
			return err
		}
	}
	return p.gitBody(f, names, from, to)
}

// gitBody reads the names and hunks after git's headers: a change of mode and an empty file have none.
func (p *parser) gitBody(f File, names, from, to string) (err error) {
	body := strings.HasPrefix(p.line(0), "--- ") && strings.HasPrefix(p.line(1), "+++ ")
	if f.Op == Rename || f.Op == Copy {
		if f.From, err = treePath(from, max(0, p.strip-1)); err == nil {
			f.To, err = treePath(to, max(0, p.strip-1))
		}
	} else if !body {
		f.To, err = gitNames(names, p.strip)
		f.From = f.To
	}
	if err != nil {
		return err
	}
	if body {
		if err := p.bodyNames(&f); err != nil {
			return err
		}
		p.at += 2
		return p.hunks(f)
	}
	if f.Op == Modify && f.Mode == SameMode {
		return fmt.Errorf("it does not say what to do with %s", f.To)
	}
	p.files = append(p.files, f)
	return nil
}

// bodyNames checks the names before the hunks against git's headers.
func (p *parser) bodyNames(f *File) error {
	for i, is := range []*string{&f.From, &f.To} {
		name, _, err := headerName(p.line(i)[4:])
		if err != nil {
			return err
		}
		if none := f.Op == Create && i == 0 || f.Op == Delete && i == 1; none != (name == devNull) {
			return fmt.Errorf("%q does not fit what the lines before it say", p.line(i))
		}
		if name == devNull {
			continue
		}
		at, err := treePath(name, p.strip)
		if err != nil {
			return err
		}
		if *is != "" && *is != at {
			return fmt.Errorf("it names two files, %s and %s: is its -p right?", *is, at)
		}
		*is = at
	}
	switch f.Op {
	case Create:
		f.From = f.To
	case Delete:
		f.To = f.From
	case Modify:
		if f.From != f.To {
			return fmt.Errorf("it names two files, %s and %s: is its -p right?", f.From, f.To)
		}
	}
	return nil
}

// extended splits one of git's header lines. word is "" where it is none.
func extended(line string) (word, value string, err error) {
	for _, word := range []string{
		"old mode", "new mode", "new file mode", "deleted file mode",
		"rename from", "rename to", "copy from", "copy to",
		"index", "similarity index", "dissimilarity index",
	} {
		if value, ok := strings.CutPrefix(line, word+" "); ok {
			if strings.HasPrefix(value, `"`) {
				value, _, err = quoted(value)
			}
			return word, value, err
		}
	}
	if line == "GIT binary patch" || strings.HasPrefix(line, "Binary files ") {
		return "binary", "", nil
	}
	return "", "", nil
}

// mode reads a mode of a patch; with set, the file gets it.
func (f *File) mode(text string, set bool) error {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 8, 32)
	switch {
	case err != nil:
		return fmt.Errorf("%q is not a mode", text)
	case n>>12 == 0o12:
		return errors.New("refused: it makes or changes a symbolic link")
	case n>>12 != 0o10:
		return fmt.Errorf("refused: mode %s is not that of a plain file", text)
	case set && n&0o111 != 0:
		f.Mode = Executable
	case set:
		f.Mode = Plain
	}
	return nil
}

// hunkRE is a hunk's header, with its four numbers.
var hunkRE = regexp.MustCompile(`^@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@`)

// hunks reads a file's hunks; there is one at least.
func (p *parser) hunks(f File) error {
	for hunkRE.MatchString(p.line(0)) {
		h, old, now, err := p.hunk()
		if err != nil {
			return err
		}
		if f.Op == Create && old > 0 || f.Op == Delete && now > 0 {
			return errors.New("the hunk has lines of a file that is not there")
		}
		f.Hunks = append(f.Hunks, h)
	}
	if len(f.Hunks) == 0 {
		return fmt.Errorf("no hunks follow the names of %s", f.To)
	}
	// diff writes a new file so where it does not know that it is one.
	if first := hunkRE.FindStringSubmatch(f.Hunks[0].Header); f.Op == Modify && first[1] == "0" && first[2] == "0" {
		f.Op = Create
	}
	p.files = append(p.files, f)
	return nil
}

// hunk reads one hunk, and how many lines it has of the old file and of the new.
func (p *parser) hunk() (h Hunk, old, now int, err error) {
	m := hunkRE.FindStringSubmatch(p.line(0))
	count := func(s string) int {
		if s == "" {
			return 1
		}
		n, _ := strconv.Atoi(s) // hunkRE saw to it
		return n
	}
	old, now = count(m[2]), count(m[4])
	h = Hunk{Header: p.line(0), Line: p.at + 1}
	var b strings.Builder
	b.WriteString(p.line(0) + "\n")
	p.at++
	for o, n := old, now; o > 0 || n > 0 || strings.HasPrefix(p.line(0), `\ `); p.at++ {
		if p.at >= len(p.lines) {
			return h, 0, 0, fmt.Errorf("cut short: the hunk at line %d has fewer lines than its header says", h.Line)
		}
		line := p.lines[p.at]
		switch line[0] {
		case ' ':
			o, n = o-1, n-1
		case '\n', '\r': // the space of an empty line was lost on the way
			o, n = o-1, n-1
			line = " " + line
		case '-':
			o--
		case '+':
			n--
		case '\\':
		default:
			return h, 0, 0, fmt.Errorf("damaged: the hunk at line %d has fewer lines than its header says: "+
				"%.40q is none of it", h.Line, p.line(0))
		}
		if o < 0 || n < 0 {
			return h, 0, 0, fmt.Errorf("damaged: the hunk at line %d has other lines than its header says", h.Line)
		}
		b.WriteString(line)
	}
	if next := p.line(0); next != "" && (next[0] == '+' || next[0] == ' ' ||
		next[0] == '-' && !strings.HasPrefix(next, "--")) && !strings.HasPrefix(next, "+++ ") {
		return h, 0, 0, fmt.Errorf("damaged: the hunk at line %d has more lines than its header says", h.Line)
	}
	h.Text = b.String()
	return h, old, now, nil
}
