package kconfig

import "strings"

// fileReader reads one file, line by line, with the blocks that are open.
type fileReader struct {
	*reader
	name  string
	depth int
	lines []string
	at    int // the number of the line that was read last, from 1
	stack []block

	// What attributes apply to: a definition and its symbol, or a choice or menu that was just opened; or nothing.
	def    *Def
	sym    *Symbol
	header bool // a choice or a menu: attributes change the top of the stack
}

func (p *fileReader) top() *block { return &p.stack[len(p.stack)-1] }

func (p *fileReader) run() error {
	for p.at < len(p.lines) {
		toks := lex(p.line(), p.vars)
		if len(toks) == 0 || toks[0].kind != word {
			continue
		}
		verb, rest := toks[0].text, toks[1:]
		switch verb {
		case "help", "---help---":
			p.help()
		case "source", "osource", "rsource", "orsource":
			p.entry()
			if len(rest) > 0 {
				if err := p.source(verb, p.name, rest[0].text, p.top().scope, p.depth); err != nil {
					return err
				}
			}
		case "config", "menuconfig":
			p.config(rest)
		case "menu", "if", "choice":
			p.open(verb, rest)
		case "endmenu", "endif", "endchoice":
			p.entry()
			if len(p.stack) > 1 && p.top().end == verb {
				p.stack = p.stack[:len(p.stack)-1]
			}
		case "comment", "mainmenu":
			p.entry()
		default:
			p.attribute(verb, rest)
		}
	}
	return nil
}

// line is the next line, joined with those that a backslash continues it by.
func (p *fileReader) line() string {
	s := p.lines[p.at]
	p.at++
	for strings.HasSuffix(s, `\`) && p.at < len(p.lines) {
		s = s[:len(s)-1] + p.lines[p.at]
		p.at++
	}
	return s
}

// help passes over a help text: it ends at the first line that is indented less than its first.
func (p *fileReader) help() {
	indent := -1
	for p.at < len(p.lines) {
		line := p.lines[p.at]
		if strings.TrimSpace(line) != "" {
			n := indentOf(line)
			if indent < 0 {
				indent = n
			}
			if n < indent || n == 0 {
				return
			}
		}
		p.at++
	}
}

func indentOf(s string) int {
	n := 0
	for _, c := range s {
		switch c {
		case ' ':
			n++
		case '\t':
			n = n&^7 + 8
		default:
			return n
		}
	}
	return n
}

func (p *fileReader) entry() { p.def, p.sym, p.header = nil, nil, false }

func (p *fileReader) config(rest []token) {
	p.entry()
	if len(rest) == 0 || rest[0].kind == macro {
		return
	}
	sc := p.top().scope
	p.sym = p.out.symbol(rest[0].text)
	p.def = &Def{File: p.name, Line: p.at, Depends: sc.depends, Visible: sc.visible, Choice: sc.choice}
	p.sym.Defs = append(p.sym.Defs, p.def)
	if sc.choice != nil {
		sc.choice.Members = append(sc.choice.Members, p.sym.Name)
	}
}

func (p *fileReader) open(verb string, rest []token) {
	p.entry()
	b := block{end: "end" + verb, scope: p.top().scope}
	switch verb {
	case "if":
		if e, _, err := parseExpr(rest); err == nil {
			b.scope.depends = both(b.scope.depends, e)
		}
	case "choice":
		b.scope.choice = &Choice{depends: b.scope.depends}
		p.header = true
	case "menu":
		p.header = true
	}
	p.stack = append(p.stack, b)
}

func (p *fileReader) attribute(verb string, rest []token) {
	switch {
	case p.header:
		p.headerAttribute(verb, rest)
	case p.def != nil:
		p.configAttribute(verb, rest)
	}
}

func (p *fileReader) headerAttribute(verb string, rest []token) {
	sc := &p.top().scope
	switch verb {
	case "depends", "visible":
		if len(rest) < 2 {
			return
		}
		e, _, err := parseExpr(rest[1:]) // after "on" or "if"
		switch {
		case err != nil:
		case verb == "depends":
			sc.depends = both(sc.depends, e)
			if sc.choice != nil {
				sc.choice.depends = both(sc.choice.depends, e)
			}
		default:
			sc.visible = both(sc.visible, e)
		}
	case "default":
		if sc.choice != nil && sc.choice.first == "" && len(rest) == 1 {
			sc.choice.first = rest[0].text
		}
	case "prompt", "bool", "tristate":
		if sc.choice != nil && len(rest) > 0 {
			sc.choice.Prompt = rest[0].text
			sc.visible = both(sc.visible, condition(rest[1:]))
		}
	}
}

func (p *fileReader) configAttribute(verb string, rest []token) {
	switch verb {
	case "bool", "tristate", "string", "hex", "int":
		p.sym.Type = verb
		p.prompt(rest)
	case "def_bool":
		p.sym.Type = "bool"
		p.fallback(rest)
	case "def_tristate":
		p.sym.Type = "tristate"
		p.fallback(rest)
	case "default":
		p.fallback(rest)
	case "prompt":
		p.prompt(rest)
	case "depends":
		if len(rest) > 1 {
			if e, _, err := parseExpr(rest[1:]); err == nil {
				p.def.Depends = both(p.def.Depends, e)
			}
		}
	case "range":
		if len(rest) > 1 {
			p.def.ranges = append(p.def.ranges, span{rest[0].text, rest[1].text, condition(rest[2:])})
		}
	case "select":
		if len(rest) > 0 {
			cond := condition(rest[1:])
			p.out.selects[rest[0].text] = append(p.out.selects[rest[0].text], reverse{p.sym.Name, cond})
		}
	}
}

func (p *fileReader) prompt(rest []token) {
	if len(rest) == 0 || rest[0].kind != quoted {
		return
	}
	p.def.Prompt = rest[0].text
	p.def.Visible = both(p.def.Visible, condition(rest[1:]))
}

func (p *fileReader) fallback(rest []token) {
	if value, rest, err := parseExpr(rest); err == nil {
		p.def.defaults = append(p.def.defaults, fallback{value, condition(rest)})
	}
}

// condition reads an optional "if EXPR".
func condition(toks []token) Expr {
	if len(toks) < 2 || toks[0].text != "if" {
		return nil
	}
	e, _, err := parseExpr(toks[1:])
	if err != nil {
		return nil
	}
	return e
}
