package splat

import (
	"fmt"
	"regexp"
	"strconv"
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

// A time is where the kernel has put it, or behind what a program left on the line (a prompt), or what a logger put
// before it.
var (
	stampRE  = regexp.MustCompile(`\[ {0,4}(\d{1,9}\.\d{6})\]`)
	firstRE  = regexp.MustCompile(`^ *` + stampRE.String())
	callerRE = regexp.MustCompile(`^ ?\[ *([TC]\d+)\]`)
	levelRE  = regexp.MustCompile(`^<\d{1,3}>`)
	// dmesg -T
	dateRE   = regexp.MustCompile(`^\[[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}\] ?`)
	loggerRE = regexp.MustCompile(`^(?:\S+ +){1,4}kernel: ?`) // syslog, journalctl
	// a mail that quotes, the log of a CI, dmesg -x
	aroundRE = regexp.MustCompile(
		`^(?:> ?)*(?:\d{4}-\d\d-\d\d[T ][\d:.,]{8,20}(?:Z|[-+]\d\d:?\d\d)? )?(?:[a-z]+ *:[a-z]+ *: ?)?`)
	namedRE = regexp.MustCompile(`^[\w.@-]+ ?[:|] ?$`) // whose console it is, of several in a log
	// /dev/kmsg: the third number are microseconds (Documentation/ABI/testing/dev-kmsg)
	kmsgRE = regexp.MustCompile(`^\d{1,4},\d+,(\d+),[^;]*;`)
	// journalctl -o short-monotonic, behind the time
	monotonicRE = regexp.MustCompile(`^ \S+ kernel:`)
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
	l.n = r.n
	if r.timed && len(raw) > 0 && raw[0] != '[' {
		if at := stampRE.FindIndex(raw); at != nil {
			raw = raw[at[0]:] // what is before it may be half a control sequence, which would take it in
		}
	}
	text := clean(raw)
	if m := kmsgRE.FindStringSubmatch(text); m != nil {
		us, _ := strconv.ParseUint(m[1], 10, 63)
		text = fmt.Sprintf("[%d.%06d] %s", us/1e6%1e9, us%1e6, text[len(m[0]):])
	}
	switch rest, stamp := r.stamped(text); {
	case stamp != "":
		r.timed = true
		l.stamp, text = stamp, rest
		if strings.Contains(text, " kernel:") {
			text = monotonicRE.ReplaceAllString(text, "")
		}
	case r.timed:
		return l, false
	default:
		text = levelRE.ReplaceAllString(text[len(aroundRE.FindString(text)):], "")
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

// stamped returns a line's time, and what is behind it; "": it has none. The first of a log has to begin its line. Of
// several, one behind the other, a program has written the first ones.
func (r *Reader) stamped(text string) (rest, stamp string) {
	at := firstRE.FindStringSubmatchIndex(text)
	if at == nil {
		at = stampRE.FindStringSubmatchIndex(text)
	}
	if at == nil || !r.timed && !begins(text[:at[0]]) {
		return text, ""
	}
	for at != nil {
		stamp, text, at = text[at[2]:at[3]], text[at[1]:], nil
		if strings.HasPrefix(strings.TrimLeft(text, " "), "[") {
			at = firstRE.FindStringSubmatchIndex(text)
		}
	}
	return text, stamp
}

// begins says whether nothing but what a logger writes is in a text before a time.
func begins(text string) bool {
	text = strings.TrimLeft(text, " \t")
	text = text[len(aroundRE.FindString(text)):]
	return text == "" || namedRE.MatchString(text) || levelRE.FindString(text) == text ||
		loggerRE.FindString(text) == text
}
