// Package kconfig reads the Kconfig files of a kernel tree far enough to say in words why a symbol did not get the
// value that was asked for. It is a reader, not a configurator: the tree's own scripts/kconfig decides, and what
// depends on the compiler (macros) is opaque here.
//
// The language is described in the kernel's Documentation/kbuild/kconfig-language.rst.
package kconfig

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Symbol is everything the tree says about one CONFIG_ name.
type Symbol struct {
	Name string
	Type string // bool, tristate, string, hex, int; "" when no definition says
	Defs []*Def
}

// Def is one definition of a symbol. A symbol may have several, in several files.
type Def struct {
	File   string
	Line   int
	Prompt string
	// Depends joins "depends on" with those of the menus, ifs and the choice around it; nil: none.
	Depends Expr
	// Visible is what else the prompt needs: its own if and the menus' "visible if".
	Visible Expr
	Choice  *Choice // nil: not in a choice
	ranges  []span

	defaults []fallback
}

// fallback is what "default VALUE if COND" says, or def_bool.
type fallback struct{ value, cond Expr }

// span is what "range LOW HIGH if COND" says.
type span struct {
	low, high string
	cond      Expr
}

// Choice is a group of symbols of which one is on.
type Choice struct {
	Prompt  string
	Members []string
	depends Expr
	first   string // its default; empty: not known
}

type reverse struct {
	by   string
	cond Expr // nil: always
}

// Tree is a kernel tree's Kconfig.
type Tree struct {
	Symbols   map[string]*Symbol
	read      map[string]bool // the files that Read went through
	selects   map[string][]reverse
	elsewhere map[string]string // symbols of files that this architecture does not read

	forward map[string][]reverse // see selectedBy
}

// They bound what a hostile tree can make the reader do; 6.12 has some 1,500 files, at most five deep.
const (
	maxFiles   = 20000
	maxInclude = 50
)

// Files are a tree's Kconfig files, by their path in the tree.
type Files map[string][]byte

// glob lists the files that match a pattern of path.Match, sorted.
func (f Files) glob(pattern string) []string {
	if _, ok := f[pattern]; ok {
		return []string{pattern}
	}
	var names []string
	if strings.ContainsAny(pattern, "*?[") {
		for name := range f {
			if ok, _ := path.Match(pattern, name); ok { // a bad pattern matches nothing
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// Read reads the Kconfig of a tree for one architecture, by the name of its directory under arch/ (SRCARCH) and the
// name make knows it by (ARCH). Lines that it does not understand are passed over; an unreadable file is an error
// only where the tree cannot be read without it.
func Read(tree Files, srcarch, arch string) (*Tree, error) {
	t := &Tree{Symbols: map[string]*Symbol{}, read: map[string]bool{}, selects: map[string][]reverse{},
		elsewhere: map[string]string{}}
	r := &reader{tree: tree, out: t,
		vars: map[string]string{"SRCARCH": srcarch, "ARCH": arch, "srctree": "."}}
	if err := r.file("Kconfig", scope{}, 0); err != nil {
		return nil, err
	}
	return t, nil
}

// scope is what surrounds a definition.
type scope struct {
	depends, visible Expr
	choice           *Choice
}

type reader struct {
	tree Files
	out  *Tree
	vars map[string]string
}

// block is a menu, an if, a choice or a file that is being read.
type block struct {
	end   string // the line that ends it
	scope scope
}

func (r *reader) file(name string, sc scope, depth int) error {
	if depth > maxInclude || len(r.out.read) > maxFiles {
		return fmt.Errorf("read %s: too many files included", name)
	}
	data, ok := r.tree[path.Clean(name)]
	if !ok {
		return fmt.Errorf("read the tree's Kconfig: there is no %s", name)
	}
	r.out.read[path.Clean(name)] = true
	p := &fileReader{reader: r, name: name, depth: depth, lines: strings.Split(string(data), "\n"),
		stack: []block{{scope: sc}}}
	return p.run()
}

// source reads the files that a source line names; patterns are those of glob.
func (r *reader) source(verb, from, pattern string, sc scope, depth int) error {
	if strings.HasSuffix(verb, "rsource") {
		pattern = path.Join(path.Dir(from), pattern)
	}
	pattern = path.Clean(strings.ReplaceAll(pattern, "$SRCARCH", r.vars["SRCARCH"]))
	// A file that is not there is passed over: make says so where it matters, and a diagnosis reads what there is.
	for _, name := range r.tree.glob(pattern) {
		if err := r.file(name, sc, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tree) symbol(name string) *Symbol {
	s := t.Symbols[name]
	if s == nil {
		s = &Symbol{Name: name}
		t.Symbols[name] = s
	}
	return s
}

// Config is a .config: symbols without CONFIG_ and values as it spells them. A symbol that is off is absent.
type Config map[string]string

// ParseConfig reads a .config.
func ParseConfig(data []byte) Config {
	c := Config{}
	for line := range strings.Lines(string(data)) {
		if name, value := ParseLine(line); name != "" && value != "n" {
			c[name] = value
		}
	}
	return c
}

// ParseLine reads a line of a .config (scripts/kconfig/confdata.c): CONFIG_X=value, or "# CONFIG_X is not set",
// whose value is n. name is "" for others. Blanks at its end do not count.
func ParseLine(line string) (name, value string) {
	line = strings.TrimRight(line, " \t\r\n")
	if s, ok := strings.CutPrefix(line, "# CONFIG_"); ok {
		if s, ok := strings.CutSuffix(s, " is not set"); ok {
			return s, "n"
		}
		return "", ""
	}
	if s, ok := strings.CutPrefix(line, "CONFIG_"); ok {
		if name, value, ok := strings.Cut(s, "="); ok {
			return name, value
		}
	}
	return "", ""
}

// Trim takes the blanks from the ends of a .config's lines: the kconfig of Linux 6.12 takes "# CONFIG_X is not set "
// for a comment, that of earlier ones did not, and distributions' files have it.
func Trim(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for line := range bytes.Lines(text) {
		end := line[len(bytes.TrimRight(line, "\r\n")):]
		out = append(append(out, bytes.TrimRight(line, " \t\r\n")...), end...)
	}
	return out
}

// Get is a symbol's value; what is absent is n.
func (c Config) Get(name string) string {
	if v, ok := c[name]; ok {
		return v
	}
	return "n"
}
