package kconfig

import "strings"

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

// lex splits one line of Kconfig, up to its comment. vars are substituted where
// they stand alone or inside quotes; every other $(...) becomes a macro.
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
