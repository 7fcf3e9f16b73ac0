package yamlfile

import (
	"encoding/base64"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Text is a file in a YAML file that kimg writes: lines that people can read, where YAML gives them back as they were,
// and base64 where it does not (a file in Latin-1, or with carriage returns).
type Text string

// MarshalYAML writes it.
func (t Text) MarshalYAML() (any, error) {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: string(t), Style: yaml.LiteralStyle}
	if plainLines(string(t)) {
		return n, nil
	}
	n.Tag, n.Value = "!!binary", base64.StdEncoding.EncodeToString([]byte(t))
	return n, nil
}

// plainLines says whether a literal block gives a text back as it was: a mail or a diff does. A first line that is
// indented or empty would be taken for the block's own indentation.
func plainLines(s string) bool {
	if s == "" || strings.ContainsRune(" \n\t", rune(s[0])) || !strings.HasSuffix(s, "\n") || !utf8.ValidString(s) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) && r != '\n' && r != '\t' || // of both sets, NEL included
			r == '\u2028' || r == '\u2029' || r == '\ufeff' || // line breaks of YAML 1.1, and a byte order mark
			r == utf8.RuneError || r == 0xfffe || r == 0xffff
	})
}
