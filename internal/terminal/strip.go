package terminal

import (
	"regexp"
	"strings"
	"unicode"
)

// escapes are the control sequences of ECMA-48: CSI (colours, cursor moves), which may have been cut off; the
// strings OSC, DCS, SOS, PM and APC (titles, clipboard, answers typed back at the prompt) up to their terminator or
// the end of the line; and the two-byte ones.
var escapes = regexp.MustCompile("\x1b(?:" +
	"\\[[0-?]*[ -/]*[@-~]?|" +
	"[\\]PX^_][^\a\x1b\n]*(?:\a|\x1b\\\\)?|" +
	"[ -/]*[0-Z\\\\^-~])?")

// Strip takes a terminal's control sequences out of a text. Control characters that stand alone stay.
func Strip(s string) string {
	if strings.IndexByte(s, '\x1b') < 0 {
		return s
	}
	return escapes.ReplaceAllString(s, "")
}

// Plain is Strip for one line, less all other characters that do not print but tabs: a
// guest must not control the terminal of whoever reads what it said.
func Plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, Strip(s))
}
