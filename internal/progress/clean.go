package progress

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kimg/kimg/internal/terminal"
)

const tabWidth = 8

// Clean makes text that kimg did not write safe to show on a terminal as one line: control sequences, control
// characters and marks that reorder text are taken out, tabs and line ends become blanks, bytes that are not UTF-8
// become U+FFFD. A build log is the work of whoever wrote the Makefile.
func Clean(s string) string {
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		plain = s[i] >= ' ' && s[i] < 0x7f
	}
	if plain {
		return s
	}
	var b strings.Builder
	column := 0
	for _, r := range terminal.Strip(strings.ToValidUTF8(s, string(utf8.RuneError))) {
		switch {
		case r == '\n', r == '\r':
			b.WriteByte(' ')
			column++
		case r == '\t':
			n := tabWidth - column%tabWidth
			b.WriteString(strings.Repeat(" ", n))
			column += n
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == '\u2028', r == '\u2029':
		default:
			b.WriteRune(r)
			column++
		}
	}
	return b.String()
}

// CleanText is Clean for a text of several lines; those after the first are indented unless they were.
func CleanText(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	for i, line := range lines {
		lines[i] = Clean(line)
		if i > 0 && !strings.HasPrefix(lines[i], " ") {
			lines[i] = "  " + lines[i]
		}
	}
	return strings.Join(lines, "\n")
}
