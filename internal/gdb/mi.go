package gdb

import (
	"errors"
	"fmt"
	"strings"
)

// miRecord is one line of GDB/MI output ("GDB/MI Output Syntax" in gdb's manual).
type miRecord struct {
	Token string // the command's that a result answers
	Kind  byte   // '^' result; '*' exec, '+' status, '=' notify; '~' console, '@' target, '&' log
	Class string // "done", "error", "stopped"; of a stream record its text
	Data  miTuple
}

// miTuple has the results of a record or tuple: strings, miTuples, and []any without the names of a list's results.
type miTuple map[string]any

// text returns the string at a path of names; empty when there is none.
func (t miTuple) text(path ...string) string {
	for _, name := range path[:len(path)-1] {
		t, _ = t[name].(miTuple)
	}
	s, _ := t[path[len(path)-1]].(string)
	return s
}

var errMI = errors.New("this is not GDB/MI")

// parseMI parses a line without its end. A prompt is a record of kind 0.
func parseMI(line string) (miRecord, error) {
	line = strings.TrimRight(line, " \r\n")
	if line == "(gdb)" || line == "" {
		return miRecord{}, nil
	}
	p := miParser{rest: line}
	digits := len(line) - len(strings.TrimLeft(line, "0123456789"))
	r := miRecord{Token: p.take(digits)}
	if p.rest == "" {
		return r, errMI
	}
	r.Kind = p.take(1)[0]
	switch r.Kind {
	case '~', '@', '&':
		text, err := p.cstring()
		r.Class = text
		return r, err
	case '^', '*', '+', '=':
	default:
		return r, errMI
	}
	end := strings.IndexByte(p.rest, ',')
	if end < 0 {
		end = len(p.rest)
	}
	r.Class, r.Data = p.take(end), miTuple{}
	for p.skip(',') {
		if err := p.result(r.Data, 0); err != nil {
			return r, err
		}
	}
	if p.rest != "" {
		return r, errMI
	}
	return r, nil
}

// maxMIDepth bounds how deeply values nest.
const maxMIDepth = 64

type miParser struct{ rest string }

func (p *miParser) take(n int) string {
	s := p.rest[:n]
	p.rest = p.rest[n:]
	return s
}

func (p *miParser) skip(c byte) bool {
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

// result parses name=value. gdb before MI version 3 lists further values of a name without it: they become a list.
func (p *miParser) result(into miTuple, depth int) error {
	if p.rest != "" && strings.IndexByte(`"{[`, p.rest[0]) >= 0 {
		_, err := p.value(depth)
		return err
	}
	name, _, ok := strings.Cut(p.rest, "=")
	if !ok || strings.ContainsAny(name, `",{}[]`) {
		return errMI
	}
	p.take(len(name) + 1)
	v, err := p.value(depth)
	into[name] = v
	return err
}

func (p *miParser) value(depth int) (any, error) {
	switch {
	case depth > maxMIDepth || p.rest == "":
		return nil, errMI
	case p.rest[0] == '"':
		return p.cstring()
	case p.skip('{'):
		tuple := miTuple{}
		for !p.skip('}') {
			if err := p.result(tuple, depth+1); err != nil {
				return nil, err
			}
			if !p.skip(',') && !strings.HasPrefix(p.rest, "}") {
				return nil, errMI
			}
		}
		return tuple, nil
	case p.skip('['):
		return p.list(depth)
	}
	return nil, errMI
}

func (p *miParser) list(depth int) (any, error) {
	var list []any
	for !p.skip(']') {
		if p.rest != "" && strings.IndexByte(`"{[`, p.rest[0]) < 0 {
			if i := strings.IndexByte(p.rest, '='); i < 0 {
				return nil, errMI
			} else {
				p.take(i + 1)
			}
		}
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		if !p.skip(',') && !strings.HasPrefix(p.rest, "]") {
			return nil, errMI
		}
	}
	return list, nil
}

// cstring parses a C string. gdb writes what does not print as octal escapes.
func (p *miParser) cstring() (string, error) {
	if !p.skip('"') {
		return "", errMI
	}
	var out strings.Builder
	for p.rest != "" {
		c := p.take(1)[0]
		switch {
		case c == '"':
			return out.String(), nil
		case c != '\\':
			out.WriteByte(c)
		case p.rest == "":
			return "", errMI
		default:
			p.escape(&out)
		}
	}
	return "", errMI
}

func (p *miParser) escape(out *strings.Builder) {
	c := p.take(1)[0]
	if i := strings.IndexByte("ntrabfve", c); i >= 0 {
		out.WriteByte("\n\t\r\a\b\f\v\x1b"[i])
		return
	}
	if c < '0' || c > '7' {
		out.WriteByte(c)
		return
	}
	n := c - '0'
	for i := 0; i < 2 && p.rest != "" && p.rest[0] >= '0' && p.rest[0] <= '7'; i++ {
		n = n<<3 | (p.take(1)[0] - '0')
	}
	out.WriteByte(n)
}

// miQuote writes a parameter of an MI command as a C string.
func miQuote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}

// miError is gdb's refusal of a command.
type miError struct{ Command, Msg string }

func (e *miError) Error() string { return fmt.Sprintf("gdb: %s", strings.TrimSuffix(e.Msg, ".")) }
