package progress

import (
	"cmp"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/kimg/kimg/internal/terminal"
)

// style is how the live renderer marks lines. The zero value is plain ASCII without colour.
type style struct {
	colour  bool
	unicode bool
}

// localStyle follows NO_COLOR (no-color.org) and the locale's character set.
func localStyle() style {
	locale := cmp.Or(os.Getenv("LC_ALL"), os.Getenv("LC_CTYPE"), os.Getenv("LANG"))
	locale = strings.ToLower(strings.ReplaceAll(locale, "-", ""))
	return style{colour: os.Getenv("NO_COLOR") == "", unicode: strings.Contains(locale, "utf8")}
}

func (s style) paint(code, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) dim(text string) string    { return s.paint("2", text) }
func (s style) red(text string) string    { return s.paint("31", text) }
func (s style) green(text string) string  { return s.paint("32", text) }
func (s style) yellow(text string) string { return s.paint("33", text) }

// Verdicts returns what paints the word of a verdict, green or red, where f is a terminal and colours are wanted.
func Verdicts(f *os.File) func(good bool, word string) string {
	s := localStyle()
	s.colour = s.colour && terminal.Of(f).Is() && os.Getenv("TERM") != "dumb"
	return func(good bool, word string) string {
		if good {
			return s.green(word)
		}
		return s.red(word)
	}
}

// pick returns the sign that the locale can show.
func (s style) pick(unicode, ascii string) string {
	if s.unicode {
		return unicode
	}
	return ascii
}

func (s style) spinner(frame int) string {
	signs := []rune(s.pick("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", `|/-\`))
	return string(signs[frame%len(signs)])
}

// fileSize asks the terminal for its size in columns and rows; one that does not know has 80 by 24.
func fileSize(f *os.File) func() (int, int) {
	return func() (int, int) {
		size := terminal.Of(f).Size()
		if size == (terminal.Size{}) {
			return 80, 24
		}
		return size.Cols, size.Rows
	}
}

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
