package terminal

import "testing"

func TestStrip(t *testing.T) {
	for in, want := range map[string]string{
		"":                                       "",
		"no escapes\a\n":                         "no escapes\a\n",
		"\x1b[0;1;31mred\x1b[0m":                 "red",
		"\x1b[?25lhidden\x1b[2 q":                "hidden",
		"\x1b]0;a title\atext":                   "text",
		"\x1b]0;a title\x1b\\text":               "text",
		"\x1b]52;c;ZXZpbA==\atext":               "text",
		"\x1bP+q544e\x1b\\text":                  "text",
		"\x1b]0;a title without an end":          "",
		"\x1b]0;without an end\nthe next line":   "\nthe next line",
		"\x1b]0;cut off by \x1b[1manother":       "another",
		"\x1bcreset, \x1b(Bcharset, \x1b=keypad": "reset, charset, keypad",
		"cut off \x1b[":                          "cut off ",
		"cut off \x1b[12;":                       "cut off ",
		"alone \x1b":                             "alone ",
		"alone \x1b\nand a line":                 "alone \nand a line",
		"\x1b\x1b[1mtwice":                       "twice",
	} {
		if got := Strip(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"a\tb":                      "a\tb",
		"a\x00b\x7f\u009bc\r\n":     "abc",
		"\x1b]0;a title\a\x1b[1mb":  "b",
		"\u202eright to left, 日本語é": "right to left, 日本語é",
	} {
		if got := Plain(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
