package checks

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kimg/kimg/internal/editdist"
	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/units"
	"go.yaml.in/yaml/v3"
)

// Problem is one thing in a file of checks that is invalid, or that this build cannot do.
type Problem struct {
	File string // empty: the command line
	Line int
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

// ProblemsError is all that is wrong with a file of checks.
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

// The bounds of a file of checks: it is written by hand.
const (
	maxFile   = 1 << 20 // bytes
	maxChecks = 1000
)

// ReadFile reads a file of checks, to which shared directories are relative. An invalid one is a *ProblemsError.
func ReadFile(name string) ([]Check, error) {
	f, err := reading.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read checks: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read checks: %w", err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("read checks: %s has more than %d bytes", name, maxFile)
	}
	return Parse(name, text)
}

// Parse reads the text of a file of checks.
func Parse(name string, text []byte) ([]Check, error) {
	r := &reader{file: name, dir: filepath.Dir(name)}
	list := r.read(text)
	if len(r.problems) > 0 {
		slices.SortStableFunc(r.problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
		return nil, &ProblemsError{r.problems}
	}
	return list, nil
}

// reader turns nodes into checks, and goes on after what is wrong, so that the user sees all of it. (Decoding into
// structs would name Go's types to the user, and forget the lines that later steps name.)
type reader struct {
	file, dir string
	problems  []Problem
}

func (r *reader) wrong(n *yaml.Node, format string, args ...any) {
	r.problems = append(r.problems, Problem{r.file, n.Line, fmt.Errorf(format, args...)})
}

// yamlLine is how the library names a line.
var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

func (r *reader) read(text []byte) []Check {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		r.wrong(&yaml.Node{}, "there are no checks in it")
		return nil
	}
	if err == nil {
		if err = dec.Decode(&more); err == nil {
			r.wrong(&more, "there is a second document: want one")
			return nil
		}
	}
	if !errors.Is(err, io.EOF) {
		m := yamlLine.FindStringSubmatch(err.Error())
		p := Problem{File: r.file, Err: errors.New(strings.TrimPrefix(err.Error(), "yaml: "))}
		if m != nil && m[1] != "" {
			p.Line, _ = strconv.Atoi(m[1])
			p.Err = errors.New(strings.TrimPrefix(err.Error(), m[0]))
		}
		r.problems = append(r.problems, p)
		return nil
	}
	return r.document(doc.Content[0])
}

func (r *reader) document(top *yaml.Node) []Check {
	var defaults Check
	var items *yaml.Node
	keys := r.mapping(top, "a file of checks", []string{"defaults", "checks"})
	if keys == nil {
		return nil
	}
	if n := keys["defaults"]; n != nil {
		r.fields(n, "defaults", &defaults, guestKeys)
	}
	if items = keys["checks"]; items == nil || items.Kind != yaml.SequenceNode || len(items.Content) == 0 {
		r.wrong(cmp.Or(items, top), "want checks: and below it a list of them")
		return nil
	}
	if len(items.Content) > maxChecks {
		r.wrong(items, "there are %d checks: want %d at most", len(items.Content), maxChecks)
		return nil
	}
	var list []Check
	first := map[string]int{}
	for _, item := range items.Content {
		c := Check{lines: map[string]int{"": item.Line}}
		before := len(r.problems)
		r.fields(item, "a check", &c, checkKeys)
		if len(r.problems) > before {
			continue
		}
		if p := c.complete(); p != nil {
			r.problems = append(r.problems, Problem{r.file, c.Line(p.key), p.err})
			continue
		}
		if line, twice := first[c.Name]; twice && item.Kind == yaml.AliasNode {
			r.wrong(item, "*%s is check %q of line %d again: each needs a name of its own", item.Value, c.Name, line)
			continue
		} else if twice {
			err := fmt.Errorf("check %q is there already, in line %d", c.Name, line)
			r.problems = append(r.problems, Problem{r.file, c.Line("name"), err})
			continue
		}
		first[c.Name] = c.Line("name")
		c.Guest = c.Guest.over(defaults.Guest)
		c.Timeout = cmp.Or(c.Timeout, defaults.Timeout)
		list = append(list, c)
	}
	return list
}

// key is one that a check may have, and how its value is read.
type key struct {
	name string
	set  func(r *reader, c *Check, n *yaml.Node)
}

// guestKeys may be defaults, too.
var guestKeys = []key{
	{"timeout", func(r *reader, c *Check, n *yaml.Node) { c.Timeout = r.duration(n) }},
	{"append", func(r *reader, c *Check, n *yaml.Node) { c.Guest.Append = r.text(n) }},
	{"memory", func(r *reader, c *Check, n *yaml.Node) { c.Guest.Memory = r.size(n) }},
	{"cpus", func(r *reader, c *Check, n *yaml.Node) { c.Guest.CPUs = r.count(n) }},
	{"init", func(r *reader, c *Check, n *yaml.Node) { c.Guest.Direct = r.init(n) }},
	{"share", func(r *reader, c *Check, n *yaml.Node) { c.Guest.Share = r.shares(n) }},
}

var checkKeys = append([]key{
	{"name", func(r *reader, c *Check, n *yaml.Node) { c.Name = r.text(n) }},
	{"break", func(r *reader, c *Check, n *yaml.Node) { c.Break = r.text(n) }},
	{"when", func(r *reader, c *Check, n *yaml.Node) {
		if text := r.text(n); text != "" {
			var err error
			if c.When, err = ParseWhen(text); err != nil {
				r.wrong(n, "when: %w", err)
			}
		}
	}},
	{"by", func(r *reader, c *Check, n *yaml.Node) { c.By = r.text(n) }},
	{"expect", func(r *reader, c *Check, n *yaml.Node) {
		for _, item := range r.list(n) {
			if text := r.text(item); text != "" {
				e, err := ParseExpectation(text)
				if err != nil {
					r.wrong(item, "%w", err)
				}
				c.Expect = append(c.Expect, e)
			}
		}
	}},
	{"print", func(r *reader, c *Check, n *yaml.Node) {
		for _, item := range r.list(n) {
			c.Print = append(c.Print, r.text(item))
		}
	}},
	{"run", func(r *reader, c *Check, n *yaml.Node) { c.Run = r.text(n) }},
}, guestKeys...)

// mapping returns the values of a mapping by their keys, which must be known; nil where it is none.
func (r *reader) mapping(n *yaml.Node, what string, known []string) map[string]*yaml.Node {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		r.wrong(n, "want %s with the keys %s", what, strings.Join(known, ", "))
		return nil
	}
	values := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		switch {
		case !slices.Contains(known, k.Value):
			r.wrong(k, "unknown key %q%s", k.Value, suggest(k.Value, known))
		case values[k.Value] != nil:
			r.wrong(k, "%s is there already, in line %d", k.Value, values[k.Value].Line)
		default:
			values[k.Value] = resolve(v)
		}
	}
	return values
}

// fields reads the keys of a check.
func (r *reader) fields(n *yaml.Node, what string, c *Check, keys []key) {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.name
	}
	values := r.mapping(n, what, names)
	for _, k := range keys {
		if v := values[k.name]; v != nil {
			if c.lines != nil {
				c.lines[k.name] = v.Line
			}
			k.set(r, c, v)
		}
	}
}

// resolve follows an alias. One cannot name another, so this ends.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// text reads a scalar as it is written.
func (r *reader) text(n *yaml.Node) string {
	n = resolve(n)
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" || strings.TrimSpace(n.Value) == "" {
		r.wrong(n, "want a text here")
		return ""
	}
	return n.Value
}

// list reads a list, or a single item as one.
func (r *reader) list(n *yaml.Node) []*yaml.Node {
	if n = resolve(n); n.Kind == yaml.SequenceNode {
		return n.Content
	}
	return []*yaml.Node{n}
}

func (r *reader) duration(n *yaml.Node) time.Duration {
	text := r.text(n)
	d, err := time.ParseDuration(text)
	if text != "" && (err != nil || d <= 0) {
		r.wrong(n, "timeout: %q: want a time such as 90s or 5m", text)
	}
	return d
}

func (r *reader) size(n *yaml.Node) units.Size {
	text := r.text(n)
	s, err := units.ParseSize(text)
	if err == nil {
		err = CheckMemory(s)
	}
	if text != "" && err != nil {
		r.wrong(n, "memory: %w", err)
	}
	return s
}

func (r *reader) count(n *yaml.Node) int {
	text := r.text(n)
	v, err := strconv.Atoi(text)
	if text != "" && (err != nil || v < 1) {
		r.wrong(n, "cpus: %q is not a number of processors", text)
	}
	return v
}

func (r *reader) init(n *yaml.Node) bool {
	text := r.text(n)
	if text != "" && text != "sh" {
		r.wrong(n, "init: %q: want sh, which leaves systemd out", text)
	}
	return text == "sh"
}

func (r *reader) shares(n *yaml.Node) []string {
	var list []string
	for _, item := range r.list(n) {
		text := r.text(item)
		if text != "" && !filepath.IsAbs(text) {
			text = filepath.Join(r.dir, text)
		}
		list = append(list, text)
	}
	return list
}

// suggest names the known name that was probably meant, or all of them.
func suggest(name string, known []string) string {
	if near := editdist.Nearest(strings.ToLower(name), slices.Values(known), 2); near != "" {
		return ": did you mean " + near + "?"
	}
	return ": want one of " + strings.Join(known, ", ")
}

// Select returns the checks of these names, in their order; all where there are no names.
func Select(list []Check, names []string) ([]Check, error) {
	known := make([]string, len(list))
	for i, c := range list {
		known[i] = c.Name
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("there is no check %q%s", name, suggest(name, known))
		}
	}
	if len(names) == 0 {
		return list, nil
	}
	return slices.DeleteFunc(slices.Clone(list), func(c Check) bool { return !slices.Contains(names, c.Name) }), nil
}
