package splat

import (
	"regexp"
	"strings"

	"github.com/kimg/kimg/internal/terminal"
)

// maxLine bounds a line, in bytes: printk's own are at most 1024, a record's.
const maxLine = 4096

// line is one that the kernel has printed.
type line struct {
	text   string // without what printk or a logger has put before it
	stamp  string // seconds since the boot; empty: the log has none
	caller string // whose it is: T and a task, C and a CPU; empty: the log does not say
	n      int    // its number in the log
}

// A time is where the kernel has put it, or behind what a program left on the line (a prompt), or a logger before it.
var (
	stampRE  = regexp.MustCompile(`\[ {0,4}(\d{1,9}\.\d{6})\]`)
	callerRE = regexp.MustCompile(`^ ?\[ *([TC]\d+)\]`)
	levelRE  = regexp.MustCompile(`^<\d{1,3}>`)
	// dmesg -T
	dateRE   = regexp.MustCompile(`^\[[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}\] ?`)
	loggerRE = regexp.MustCompile(`^(?:\S+ +){2,4}kernel: ?`) // syslog, journalctl
)

// clean takes terminals' control sequences and what does not print from a line.
func clean(raw []byte) string {
	raw = trimEnd(raw)
	for _, b := range raw {
		if b < ' ' && b != '\t' || b >= 0x7f {
			return strings.TrimRight(terminal.Plain(string(raw)), " \t")
		}
	}
	return string(raw)
}

func trimEnd(raw []byte) []byte {
	for len(raw) > 0 {
		switch raw[len(raw)-1] {
		case ' ', '\t', '\r', '\n':
			raw = raw[:len(raw)-1]
		default:
			return raw
		}
	}
	return raw
}

// split parses a line of the log. Once one had a time, the kernel's all have: ok is false of others, which a program
// has written to the same console.
func (r *Reader) split(raw []byte) (l line, ok bool) {
	text := clean(raw)
	l.n = r.n
	if at := stampRE.FindStringSubmatchIndex(text); at != nil && r.stamps(text, at[0]) {
		r.timed = true
		l.stamp, text = text[at[2]:at[3]], text[at[1]:]
	} else if r.timed {
		return l, false
	} else {
		text = levelRE.ReplaceAllString(text, "")
		if strings.HasPrefix(text, "[") {
			text = dateRE.ReplaceAllString(text, "")
		} else if strings.Contains(text, "kernel: ") {
			text = loggerRE.ReplaceAllString(text, "")
		}
	}
	if m := callerRE.FindStringSubmatchIndex(text); m != nil {
		l.caller, text = text[m[2]:m[3]], text[m[1]:]
	}
	if l.stamp != "" || l.caller != "" {
		text = strings.TrimPrefix(text, " ")
	}
	l.text = text
	return l, true
}

// stamps says whether what looks like a time at a place of the text is one: the first has to begin its line.
func (r *Reader) stamps(text string, at int) bool {
	if r.timed || at == 0 {
		return true
	}
	before := text[:at]
	return levelRE.FindString(before) == before || loggerRE.FindString(before) == before
}
