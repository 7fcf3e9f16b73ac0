// Package yamlfile reads YAML files that people write by hand: [Reader] turns nodes into values, goes on after what
// is wrong, and tells all of it with its lines. (Decoding into structs would name Go's types to the user.)
package yamlfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/kimg/kimg/internal/editdist"
	"go.yaml.in/yaml/v3"
)

// Problem is one thing in a file that is invalid, or that cannot be done.
type Problem struct {
	File string // empty: the command line
	Line int    // 0: the whole file
	Err  error
}

func (p Problem) Error() string {
	switch {
	case p.File == "":
		return p.Err.Error()
	case p.Line == 0:
		return fmt.Sprintf("%s: %v", p.File, p.Err)
	}
	return fmt.Sprintf("%s:%d: %v", p.File, p.Line, p.Err)
}

func (p Problem) Unwrap() error { return p.Err }

// ProblemsError is all that is wrong with a file.
type ProblemsError struct{ Problems []Problem }

func (e *ProblemsError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Hint is none: that of one problem would look like that of all.
func (e *ProblemsError) Hint() string { return "" }

// Unwrap gives the reasons.
func (e *ProblemsError) Unwrap() []error {
	errs := make([]error, len(e.Problems))
	for i, p := range e.Problems {
		errs[i] = p
	}
	return errs
}

// Reader reads the nodes of one file, and collects what is wrong with them.
type Reader struct {
	File     string
	Problems []Problem
}

// Err is a *ProblemsError of all problems, by their lines; nil: there are none.
func (r *Reader) Err() error {
	if len(r.Problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.Problems, func(a, b Problem) int { return a.Line - b.Line })
	return &ProblemsError{r.Problems}
}

// Wrong notes a problem with a node.
func (r *Reader) Wrong(n *yaml.Node, format string, args ...any) {
	r.Problems = append(r.Problems, Problem{r.File, n.Line, fmt.Errorf(format, args...)})
}

// yamlLine is how the library names a line.
var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// Document returns the one document of a text; nil: there is none, or it is wrong.
func (r *Reader) Document(text []byte) *yaml.Node {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		if err = dec.Decode(&more); err == nil {
			r.Wrong(&more, "there is a second document: want one")
			return nil
		}
	}
	if errors.Is(err, io.EOF) {
		r.tags(doc.Content[0])
		return doc.Content[0]
	}
	r.Problems = append(r.Problems, r.unread(text, err))
	return nil
}

// unread is what the library cannot read, in words. It leaves out the number of the first line, and of lines whose
// bytes are no text.
func (r *Reader) unread(text []byte, err error) Problem {
	p := Problem{File: r.File, Line: 1, Err: errors.New(strings.TrimPrefix(err.Error(), "yaml: "))}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil && m[1] != "" {
		p.Line, _ = strconv.Atoi(m[1])
		p.Err = errors.New(strings.TrimPrefix(err.Error(), m[0]))
	}
	said := p.Err.Error()
	for part, words := range inWords {
		if strings.Contains(said, part) {
			p.Err = errors.New(words)
		}
	}
	if m := noAnchor.FindStringSubmatch(said); m != nil {
		p.Line = lineOf(text, func(line []byte) bool { return bytes.Contains(line, []byte("*"+m[1])) })
		p.Err = fmt.Errorf("*%s stands for what is marked &%s, and nothing is: a text that begins with * is in quotes",
			m[1], m[1])
	}
	if line := lineOf(text, notUTF8); line > 0 {
		p.Line, p.Err = line, errors.New("this line is not UTF-8: save the file as UTF-8")
	} else if line := lineOf(text, control); line > 0 {
		p.Line, p.Err = line, errors.New("a control character is in this line, as in a file that is UTF-16, or no "+
			"text: save it as UTF-8")
	}
	found := strings.Contains(said, "cannot start any token") || strings.Contains(said, "tab character")
	if line := lineOf(text, tabbed); line > 0 && found {
		p.Line, p.Err = line, errors.New("a tab indents this line: YAML wants blanks")
	}
	return p
}

// inWords are the library's errors for what people do most.
var inWords = map[string]string{
	"mapping values are not allowed": `a second "KEY: " is in this line, or one is indented below a value: ` +
		"keys begin in one column, and a value that has a colon and a blank is in quotes",
	"<document start>": "this line, or the next, does not begin in the column of its neighbours",
	"find expected key": "this line, or one near it, does not begin in the column of its neighbours, " +
		"or a quote in it does not end",
	"could not find expected ':'": "this line, or the one before, is no KEY: VALUE: a blank follows the colon",
}

var noAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)

// lineOf is the first line that is so; 0: there is none.
func lineOf(text []byte, is func(line []byte) bool) int {
	n := 0
	for line := range bytes.Lines(text) {
		if n++; is(line) {
			return n
		}
	}
	return 0
}

func notUTF8(line []byte) bool { return !utf8.Valid(line) }

// control finds what YAML takes in no place (c-printable, https://yaml.org/spec/1.2.2/#51-character-set).
func control(line []byte) bool {
	return bytes.ContainsFunc(line, func(c rune) bool {
		return c < ' ' && c != '\t' && c != '\n' && c != '\r' || c == 0x7f
	})
}

// tabbed finds a line that a tab indents.
func tabbed(line []byte) bool {
	rest := bytes.TrimLeft(line, " ")
	return len(rest) > 0 && rest[0] == '\t'
}

// tags refuses what a tag, such as !!binary, would make of a value: all are taken as they are written.
func (r *Reader) tags(n *yaml.Node) {
	if n.Style&yaml.TaggedStyle != 0 && n.Tag != "!!str" {
		r.Wrong(n, "the tag %s is not read: write the value as it is", n.Tag)
	}
	for _, one := range n.Content {
		r.tags(one)
	}
}

// Mapping returns the values of a mapping by their keys, which must be known; nil where it is none.
func (r *Reader) Mapping(n *yaml.Node, what string, known []string) map[string]*yaml.Node {
	n = Resolve(n)
	if n.Kind != yaml.MappingNode {
		r.noMapping(n, what, known)
		return nil
	}
	values, lines := map[string]*yaml.Node{}, map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		switch {
		case k.Value == "<<":
			r.Wrong(k, "merge keys (<<) are not read: write out what they would bring")
		case k.Kind != yaml.ScalarNode:
			r.Wrong(k, "a key is a word: want one of %s", strings.Join(known, ", "))
		case !slices.Contains(known, k.Value):
			r.Wrong(k, "unknown key %q%s", k.Value, Suggest(k.Value, known))
		case values[k.Value] != nil:
			r.Wrong(k, "%s is there already, in line %d", k.Value, lines[k.Value])
		default:
			values[k.Value], lines[k.Value] = Resolve(v), k.Line
		}
	}
	return values
}

// almost is a line that was meant as KEY: VALUE.
var almost = regexp.MustCompile(`^([a-z-]+)\s*[:=]\p{Zs}*([^\n]*)`)

// noMapping says how keys and values are written, where they are not.
func (r *Reader) noMapping(n *yaml.Node, what string, known []string) {
	m := almost.FindStringSubmatch(n.Value)
	switch {
	case n.Kind == yaml.SequenceNode && len(n.Content) > 0 && n.Content[0].Kind == yaml.MappingNode &&
		len(n.Content[0].Content) > 0 && slices.Contains(known, n.Content[0].Content[0].Value):
		r.Wrong(n, "want %s, not a list: leave out the dash (-)", what)
	case m != nil && slices.Contains(known, m[1]):
		r.Wrong(n, "want \"%s: %s\": a key, a colon, a blank and the value", m[1], m[2])
	default:
		r.Wrong(n, "want %s with the keys %s", what, strings.Join(known, ", "))
	}
}

// Resolve follows an alias. One cannot name another, so this ends.
func Resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// IsNull reports whether a key has no value.
func IsNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// Text reads a scalar as it is written. key is what the error calls it.
func (r *Reader) Text(key string, n *yaml.Node) string {
	n = Resolve(n)
	if n.Kind != yaml.ScalarNode || IsNull(n) || strings.TrimSpace(n.Value) == "" {
		r.Wrong(n, "%s: want a text here%s", key, Instead(n))
		return ""
	}
	return n.Value
}

// Instead says what is there in the place of a text: ", not a list".
func Instead(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.SequenceNode:
		return ", not a list"
	case n.Kind == yaml.MappingNode:
		return ", not keys and values"
	case IsNull(n):
		return ", and there is nothing"
	}
	return ", and it is empty"
}

// List reads a list, or a single item as one.
func (r *Reader) List(n *yaml.Node) []*yaml.Node {
	if n = Resolve(n); n.Kind == yaml.SequenceNode {
		return n.Content
	}
	return []*yaml.Node{n}
}

// Suggest names the known name that was probably meant, or all of them.
func Suggest(name string, known []string) string {
	if near := editdist.Near(name, known); near != "" {
		return ": did you mean " + near + "?"
	}
	return ": want one of " + strings.Join(known, ", ")
}
