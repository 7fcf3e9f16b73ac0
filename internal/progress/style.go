package progress

import (
	"cmp"
	"os"
	"strings"

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

// fileSize returns a function that asks the terminal for its size in columns
// and rows. A terminal that does not know gets the traditional 80 by 24.
func fileSize(f *os.File) func() (int, int) {
	return func() (int, int) {
		size := terminal.Of(f).Size()
		if size == (terminal.Size{}) {
			return 80, 24
		}
		return size.Cols, size.Rows
	}
}
