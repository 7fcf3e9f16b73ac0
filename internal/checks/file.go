package checks

import (
	"cmp"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/units"
	"github.com/kimg/kimg/internal/yamlfile"
	"go.yaml.in/yaml/v3"
)

// Problem is one thing in a file of checks that is invalid, or that this build cannot do.
type Problem = yamlfile.Problem

// ProblemsError is all that is wrong with a file of checks.
type ProblemsError = yamlfile.ProblemsError

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
	r := &reader{Reader: yamlfile.Reader{File: name}, dir: filepath.Dir(name)}
	list := r.read(text)
	if err := r.Err(); err != nil {
		return nil, err
	}
	return list, nil
}

// reader turns nodes into checks.
type reader struct {
	yamlfile.Reader
	dir string
}

func (r *reader) read(text []byte) []Check {
	top := r.Document(text)
	if top == nil {
		if len(r.Problems) == 0 {
			r.Wrong(&yaml.Node{}, "there are no checks in it")
		}
		return nil
	}
	return r.document(top)
}

func (r *reader) document(top *yaml.Node) []Check {
	var defaults Check
	var items *yaml.Node
	keys := r.Mapping(top, "a file of checks", []string{"defaults", "checks"})
	if keys == nil {
		return nil
	}
	if n := keys["defaults"]; n != nil {
		r.fields(n, "defaults", &defaults, guestKeys)
	}
	if items = keys["checks"]; items == nil || items.Kind != yaml.SequenceNode || len(items.Content) == 0 {
		r.Wrong(cmp.Or(items, top), "want checks: and below it a list of them")
		return nil
	}
	if len(items.Content) > maxChecks {
		r.Wrong(items, "there are %d checks: want %d at most", len(items.Content), maxChecks)
		return nil
	}
	var list []Check
	first := map[string]int{}
	for _, item := range items.Content {
		c := Check{lines: map[string]int{"": item.Line}}
		before := len(r.Problems)
		r.fields(item, "a check", &c, checkKeys)
		if len(r.Problems) > before {
			continue
		}
		if p := c.complete(); p != nil {
			r.Problems = append(r.Problems, Problem{File: r.File, Line: c.Line(p.key), Err: p.err})
			continue
		}
		if line, twice := first[c.Name]; twice && item.Kind == yaml.AliasNode {
			r.Wrong(item, "*%s is check %q of line %d again: each needs a name of its own", item.Value, c.Name, line)
			continue
		} else if twice {
			err := fmt.Errorf("check %q is there already, in line %d", c.Name, line)
			r.Problems = append(r.Problems, Problem{File: r.File, Line: c.Line("name"), Err: err})
			continue
		}
		first[c.Name] = c.Line("name")
		c.Guest = c.Guest.over(defaults.Guest)
		c.Timeout = cmp.Or(c.Timeout, defaults.Timeout)
		c.Splats = cmp.Or(c.Splats, defaults.Splats)
		c.Allow = append(c.Allow[:len(c.Allow):len(c.Allow)], defaults.Allow...)
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
	{"append", func(r *reader, c *Check, n *yaml.Node) { c.Guest.Append = r.Text("append", n) }},
	{"memory", func(r *reader, c *Check, n *yaml.Node) { c.Guest.Memory = r.size(n) }},
	{"cpus", func(r *reader, c *Check, n *yaml.Node) { c.Guest.CPUs = r.count(n) }},
	{"init", func(r *reader, c *Check, n *yaml.Node) { c.Guest.Direct = r.init(n) }},
	{"share", func(r *reader, c *Check, n *yaml.Node) { c.Guest.Share = r.shares(n) }},
	{"splats", func(r *reader, c *Check, n *yaml.Node) { c.Splats = r.policy(n) }},
	{"allow", func(r *reader, c *Check, n *yaml.Node) { c.Allow = r.allowed(n) }},
}

var checkKeys = append([]key{
	{"name", func(r *reader, c *Check, n *yaml.Node) { c.Name = r.Text("name", n) }},
	{"break", func(r *reader, c *Check, n *yaml.Node) { c.Break = r.Text("break", n) }},
	{"when", func(r *reader, c *Check, n *yaml.Node) {
		if text := r.Text("when", n); text != "" {
			var err error
			if c.When, err = ParseWhen(text); err != nil {
				r.Wrong(n, "when: %w", err)
			}
		}
	}},
	{"by", func(r *reader, c *Check, n *yaml.Node) { c.By = r.Text("by", n) }},
	{"expect", func(r *reader, c *Check, n *yaml.Node) {
		for _, item := range r.List(n) {
			if text := r.Text("expect", item); text != "" {
				e, err := ParseExpectation(text)
				if err != nil {
					r.Wrong(item, "%w", err)
				}
				c.Expect = append(c.Expect, e)
			}
		}
	}},
	{"print", func(r *reader, c *Check, n *yaml.Node) {
		for _, item := range r.List(n) {
			c.Print = append(c.Print, r.Text("print", item))
		}
	}},
	{"run", func(r *reader, c *Check, n *yaml.Node) { c.Run = r.Text("run", n) }},
}, guestKeys...)

// fields reads the keys of a check.
func (r *reader) fields(n *yaml.Node, what string, c *Check, keys []key) {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.name
	}
	values := r.Mapping(n, what, names)
	for _, k := range keys {
		if v := values[k.name]; v != nil {
			if c.lines != nil {
				c.lines[k.name] = v.Line
			}
			k.set(r, c, v)
		}
	}
}

func (r *reader) duration(n *yaml.Node) time.Duration {
	text := r.Text("timeout", n)
	d, err := time.ParseDuration(text)
	if text != "" && (err != nil || d <= 0) {
		r.Wrong(n, "timeout: %q: want a time such as 90s or 5m", text)
	}
	return d
}

func (r *reader) size(n *yaml.Node) units.Size {
	text := r.Text("memory", n)
	s, err := units.ParseSize(text)
	if err == nil {
		err = CheckMemory(s)
	}
	if text != "" && err != nil {
		r.Wrong(n, "memory: %w", err)
	}
	return s
}

func (r *reader) count(n *yaml.Node) int {
	text := r.Text("cpus", n)
	v, err := strconv.Atoi(text)
	if text != "" && (err != nil || v < 1) {
		r.Wrong(n, "cpus: %q is not a number of processors", text)
	}
	return v
}

func (r *reader) init(n *yaml.Node) bool {
	text := r.Text("init", n)
	if text != "" && text != "sh" {
		r.Wrong(n, "init: %q: want sh, which leaves systemd out", text)
	}
	return text == "sh"
}

func (r *reader) shares(n *yaml.Node) []string {
	var list []string
	for _, item := range r.List(n) {
		text := r.Text("share", item)
		if text != "" && !filepath.IsAbs(text) {
			text = filepath.Join(r.dir, text)
		}
		list = append(list, text)
	}
	return list
}

// Select returns the checks of these names, in their order; all where there are no names.
func Select(list []Check, names []string) ([]Check, error) {
	known := make([]string, len(list))
	for i, c := range list {
		known[i] = c.Name
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("there is no check %q%s", name, yamlfile.Suggest(name, known))
		}
	}
	if len(names) == 0 {
		return list, nil
	}
	return slices.DeleteFunc(slices.Clone(list), func(c Check) bool { return !slices.Contains(names, c.Name) }), nil
}
