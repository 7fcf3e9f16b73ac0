// Package deb822 reads the format of Debian's control files, package lists and
// deb822 sources: stanzas of fields, deb822(5). Every such file is read with it.
package deb822

import (
	"fmt"
	"iter"
	"strings"
)

// Stanzas yields the stanzas of a text without the blank lines around them. They share the text's memory.
func Stanzas(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for len(text) > 0 {
			var stanza string
			stanza, text, _ = strings.Cut(text, "\n\n")
			if stanza = strings.Trim(stanza, "\n"); stanza != "" && !yield(stanza) {
				return
			}
		}
	}
}

// Field is a field of a stanza. Its value has the lines that continue it, and no white space around it.
type Field struct{ Name, Value string }

// Fields yields the fields of a stanza; they share its memory. The last yield is an error where a line is no field.
func Fields(stanza string) iter.Seq2[Field, error] {
	return func(yield func(Field, error) bool) {
		for len(stanza) > 0 {
			var line string
			line, stanza = cut(stanza)
			name, value, ok := strings.Cut(line, ":")
			if !ok || name == "" || strings.ContainsAny(name, " \t\n") {
				yield(Field{}, fmt.Errorf("line %.60q is no field", line))
				return
			}
			if !yield(Field{name, strings.TrimSpace(value)}, nil) {
				return
			}
		}
	}
}

// Map is the fields of a stanza by their names in lower case; of those of one name the last.
func Map(stanza string) (map[string]string, error) {
	m := make(map[string]string)
	for f, err := range Fields(stanza) {
		if err != nil {
			return nil, err
		}
		m[strings.ToLower(f.Name)] = f.Value
	}
	return m, nil
}

// cut takes the first field, with the lines that continue it.
func cut(stanza string) (field, rest string) {
	for i := 0; ; {
		n := strings.IndexByte(stanza[i:], '\n')
		if n < 0 {
			return stanza, ""
		}
		i += n + 1
		if i == len(stanza) || stanza[i] != ' ' && stanza[i] != '\t' {
			return stanza[:i-1], stanza[i:]
		}
	}
}
