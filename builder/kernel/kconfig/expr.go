package kconfig

import (
	"fmt"
	"strconv"
	"strings"
)

// Tri is a value of Kconfig's three-valued logic, in its order: n < m < y.
type Tri int

// The three values.
const (
	No Tri = iota
	Mod
	Yes
)

func (t Tri) String() string { return [...]string{"n", "m", "y"}[t] }

func triOf(s string) Tri {
	switch s {
	case "y":
		return Yes
	case "m":
		return Mod
	}
	return No
}

// Expr is a condition of the Kconfig language, or an operand of one.
type Expr interface {
	// eval gives the value under a configuration. What is asked of the compiler (a macro) counts as met.
	eval(c Config) Tri
	String() string
}

type (
	// symbol is a name, or a constant such as y or "x86".
	symbol struct {
		name  string
		quote bool
	}
	opaque     struct{ text string } // $(cc-option,-mfoo): only make knows
	not        struct{ x Expr }
	and        struct{ x, y Expr }
	or         struct{ x, y Expr }
	comparison struct {
		op   string
		x, y Expr
	}
)

func (s symbol) constant() bool {
	return s.quote || s.name == "y" || s.name == "m" || s.name == "n" || !isSymbol(s.name)
}

func (s symbol) text(c Config) string {
	if s.constant() {
		return s.name
	}
	if v, ok := c[s.name]; ok {
		return strings.Trim(v, `"`)
	}
	return "n"
}

func (s symbol) eval(c Config) Tri { return triOf(s.text(c)) }
func (s symbol) String() string {
	if s.quote {
		return strconv.Quote(s.name)
	}
	return s.name
}

func (o opaque) eval(Config) Tri         { return Yes }
func (o opaque) String() string          { return o.text }
func (n not) eval(c Config) Tri          { return Yes - n.x.eval(c) }
func (n not) String() string             { return "!" + bracket(n.x) }
func (a and) eval(c Config) Tri          { return min(a.x.eval(c), a.y.eval(c)) }
func (a and) String() string             { return bracket(a.x) + " && " + bracket(a.y) }
func (o or) eval(c Config) Tri           { return max(o.x.eval(c), o.y.eval(c)) }
func (o or) String() string              { return bracket(o.x) + " || " + bracket(o.y) }
func (c comparison) String() string      { return c.x.String() + c.op + c.y.String() }
func (c comparison) eval(cfg Config) Tri { return c.compare(cfg) }

// compare follows expr_calc_value in scripts/kconfig/expr.c: numbers compare as numbers, all else as text.
func (c comparison) compare(cfg Config) Tri {
	x, okX := c.x.(symbol)
	y, okY := c.y.(symbol)
	if !okX || !okY {
		return Yes // a macro: only make knows
	}
	a, b := x.text(cfg), y.text(cfg)
	order := strings.Compare(a, b)
	m, errM := strconv.ParseInt(a, 0, 64)
	n, errN := strconv.ParseInt(b, 0, 64)
	if errM == nil && errN == nil {
		order = int(max(-1, min(1, m-n)))
	}
	holds := map[string]bool{"=": order == 0, "!=": order != 0, "<": order < 0,
		">": order > 0, "<=": order <= 0, ">=": order >= 0}[c.op]
	if holds {
		return Yes
	}
	return No
}

// fixed reports whether no symbol is compared: what make is given, such as ARCH, decides.
func (c comparison) fixed() bool {
	x, okX := c.x.(symbol)
	y, okY := c.y.(symbol)
	return okX && okY && x.constant() && y.constant()
}

func bracket(e Expr) string {
	switch e.(type) {
	case and, or:
		return "(" + e.String() + ")"
	}
	return e.String()
}

// both is the conjunction of two conditions; nil stands for none.
func both(x, y Expr) Expr {
	switch {
	case x == nil:
		return y
	case y == nil:
		return x
	}
	return and{x, y}
}

// conjuncts splits an expression at its outermost &&.
func conjuncts(e Expr) []Expr {
	if e == nil {
		return nil
	}
	if a, ok := e.(and); ok {
		return append(conjuncts(a.x), conjuncts(a.y)...)
	}
	return []Expr{e}
}

func isSymbol(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	if s == "" {
		return false
	}
	_, err := strconv.ParseInt(s, 0, 64)
	return err != nil
}

// maxDepth bounds the nesting of a condition, so that a hostile file cannot exhaust the stack.
const maxDepth = 200

type exprParser struct {
	toks  []token
	depth int
}

// parseExpr reads a condition from the front of toks and returns what is left.
func parseExpr(toks []token) (Expr, []token, error) {
	p := &exprParser{toks: toks}
	e, err := p.or()
	return e, p.toks, err
}

func (p *exprParser) peek() string {
	if len(p.toks) == 0 || p.toks[0].kind == quoted {
		return ""
	}
	return p.toks[0].text
}

func (p *exprParser) or() (Expr, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, fmt.Errorf("condition nested too deeply")
	}
	defer func() { p.depth-- }()
	x, err := p.and()
	for err == nil && p.peek() == "||" {
		p.toks = p.toks[1:]
		var y Expr
		y, err = p.and()
		x = or{x, y}
	}
	return x, err
}

func (p *exprParser) and() (Expr, error) {
	x, err := p.unary()
	for err == nil && p.peek() == "&&" {
		p.toks = p.toks[1:]
		var y Expr
		y, err = p.unary()
		x = and{x, y}
	}
	return x, err
}

func (p *exprParser) unary() (Expr, error) {
	switch p.peek() {
	case "!":
		if p.depth++; p.depth > maxDepth {
			return nil, fmt.Errorf("condition nested too deeply")
		}
		defer func() { p.depth-- }()
		p.toks = p.toks[1:]
		x, err := p.unary()
		return not{x}, err
	case "(":
		p.toks = p.toks[1:]
		x, err := p.or()
		if err != nil {
			return nil, err
		}
		if p.peek() != ")" {
			return nil, fmt.Errorf("want )")
		}
		p.toks = p.toks[1:]
		return x, nil
	}
	x, err := p.operand()
	if err != nil {
		return nil, err
	}
	switch op := p.peek(); op {
	case "=", "!=", "<", ">", "<=", ">=":
		p.toks = p.toks[1:]
		y, err := p.operand()
		return comparison{op, x, y}, err
	}
	return x, nil
}

func (p *exprParser) operand() (Expr, error) {
	if len(p.toks) == 0 {
		return nil, fmt.Errorf("want a symbol")
	}
	t := p.toks[0]
	p.toks = p.toks[1:]
	switch t.kind {
	case quoted:
		if strings.Contains(t.text, "$(") {
			return opaque{t.text}, nil
		}
		return symbol{t.text, true}, nil
	case word:
		return symbol{t.text, false}, nil
	case macro:
		return opaque{t.text}, nil
	}
	return nil, fmt.Errorf("unexpected %q", t.text)
}

type tokenKind int

const (
	word tokenKind = iota
	quoted
	macro // $(...)
	operator
)

type token struct {
	kind tokenKind
	text string
}

// lex splits a line of Kconfig, up to its comment. vars are substituted; every other $(...) becomes a macro.
func lex(line string, vars map[string]string) []token {
	var toks []token
	for i := 0; i < len(line); {
		c := line[i]
		switch {
		case c == ' ' || c == '\t' || c == '\r':
			i++
		case c == '#':
			return toks
		case c == '"' || c == '\'':
			text, n := lexQuoted(line[i:])
			toks = append(toks, token{quoted, substitute(text, vars)})
			i += n
		case c == '$' && i+1 < len(line) && line[i+1] == '(':
			n := macroLen(line[i:])
			if v, ok := vars[strings.TrimSuffix(line[i+2:i+n], ")")]; ok {
				toks = append(toks, token{word, v})
			} else {
				toks = append(toks, token{macro, line[i : i+n]})
			}
			i += n
		case strings.HasPrefix(line[i:], "&&") || strings.HasPrefix(line[i:], "||") ||
			strings.HasPrefix(line[i:], "!=") || strings.HasPrefix(line[i:], "<=") || strings.HasPrefix(line[i:], ">="):
			toks = append(toks, token{operator, line[i : i+2]})
			i += 2
		case strings.IndexByte("!()=<>", c) >= 0:
			toks = append(toks, token{operator, string(c)})
			i++
		default:
			n := strings.IndexAny(line[i:], " \t\r#\"'!()=<>&|$")
			if n < 0 {
				n = len(line) - i
			}
			if n == 0 { // a lone & | or $
				n = 1
			}
			toks = append(toks, token{word, line[i : i+n]})
			i += n
		}
	}
	return toks
}

func lexQuoted(s string) (string, int) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == s[0]:
			return b.String(), i + 1
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), len(s)
}

// macroLen is the length of the $(...) at the start of s, nested ones included.
func macroLen(s string) int {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(s)
}

func substitute(s string, vars map[string]string) string {
	if !strings.Contains(s, "$(") {
		return s
	}
	for name, v := range vars {
		s = strings.ReplaceAll(s, "$("+name+")", v)
	}
	return s
}
