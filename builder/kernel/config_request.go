package kernel

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/kimg/kimg/builder/kernel/kconfig"
	"github.com/kimg/kimg/internal/arch"
)

// Request is one symbol and the value that it shall have.
type Request struct {
	Symbol string // without CONFIG_
	Value  string // as a .config spells it: y, m, n, 42, 0x1000, "text"
	Origin string // where it comes from: `set DRM=y`, `debug.fragment:3`
}

func (r Request) String() string { return r.Symbol + "=" + r.Value }

// Line is the request as a .config spells it.
func (r Request) Line() string {
	if r.Value == "n" {
		return "# CONFIG_" + r.Symbol + " is not set"
	}
	return "CONFIG_" + r.Symbol + "=" + r.Value
}

// setOrigin begins the origin of what was set by itself, by --set or in kimg.yaml.
const setOrigin = "set "

var (
	symbolRE = regexp.MustCompile(`^[A-Za-z0-9_]+$`)
	numberRE = regexp.MustCompile(`^-?[0-9]+$|^0[xX][0-9a-fA-F]+$`)
	stringRE = regexp.MustCompile(`^"([^"\\]|\\.)*"$`)
)

// ParseSet reads SYM=VALUE, with or without CONFIG_. What is no y, m, n or number is a string, quoted or not.
func ParseSet(s string) (Request, error) {
	name, value, ok := strings.Cut(s, "=")
	name = strings.TrimPrefix(name, "CONFIG_")
	if !ok || !symbolRE.MatchString(name) {
		return Request{}, fmt.Errorf("set %q: want SYMBOL=VALUE, such as DRM=y", s)
	}
	switch {
	case strings.ContainsAny(value, "\n\r\x00"):
		return Request{}, fmt.Errorf("set %q: a value is one line", s)
	case value == "":
		value = `""`
	case !plainValue(value):
		value = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
	}
	return Request{Symbol: name, Value: value, Origin: setOrigin + s}, nil
}

func plainValue(v string) bool {
	return v == "y" || v == "m" || v == "n" || numberRE.MatchString(v) || stringRE.MatchString(v)
}

// ParseFragment reads a fragment, the form of .config: CONFIG_X=value and "# CONFIG_X is not set". name is what
// errors call it, a the architecture that it is for; zero: any. A line that is neither, nor a comment, is an error: a
// misspelt request must not be lost.
func ParseFragment(r io.Reader, name string, a arch.Arch) ([]Request, error) {
	var reqs []Request
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(strings.TrimPrefix(sc.Text(), "\ufeff")) // an editor's mark of UTF-8
		if n == 1 && (strings.HasPrefix(line, "\xff\xfe") || strings.HasPrefix(line, "\xfe\xff")) {
			return nil, fmt.Errorf("read fragment %s: it is in UTF-16: save it as UTF-8", name)
		}
		origin := fmt.Sprintf("%s:%d", name, n)
		sym, value := kconfig.ParseLine(line)
		switch off := strings.HasPrefix(line, "#"); {
		case symbolRE.MatchString(sym) && (off || plainValue(value)):
			reqs = append(reqs, Request{sym, value, origin})
		case off && checkArch(a, name, []byte(line)) != nil:
			return nil, checkArch(a, name, []byte(line))
		case offRE.MatchString(line):
			return nil, fmt.Errorf("read fragment %s: %w", origin, badOff(line))
		case line != "" && !off:
			return nil, fmt.Errorf("read fragment %s: %q: %s", origin, line, meant(line))
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read fragment %s: %w", name, err)
	}
	return reqs, nil
}

// yes are other words for a symbol's value.
var yes = map[string]string{"yes": "y", "true": "y", "on": "y", "no": "n", "false": "n", "off": "n", "module": "m"}

// meant says how a line of a fragment is written that is none.
func meant(line string) string {
	const form = "want CONFIG_SYMBOL=value or \"# CONFIG_SYMBOL is not set\""
	name, value, ok := strings.Cut(line, "=")
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	bare, _, comment := strings.Cut(value, "#")
	bare = strings.TrimSpace(bare)
	symbol := symbolRE.MatchString(strings.TrimPrefix(name, "CONFIG_"))
	switch {
	case !ok || !symbol || !strings.HasPrefix(name, "CONFIG_"):
		return form
	case yes[strings.ToLower(value)] != "":
		return fmt.Sprintf("want %s=%s", name, yes[strings.ToLower(value)])
	case comment && plainValue(bare):
		return fmt.Sprintf("want %s=%s: a comment is a line of its own", name, bare)
	case plainValue(value):
		return fmt.Sprintf("want %s=%s, without blanks", name, value)
	case value != "" && !strings.ContainsAny(value, `"\\`):
		return fmt.Sprintf("want %s=\"%s\": a text is in quotes", name, value)
	}
	return form
}

// offRE is what was meant to turn a symbol off, and is a comment to kconfig, which wants the blanks as they are.
var offRE = regexp.MustCompile(`^#[#\s]*(?:CONFIG_([A-Za-z0-9_]+)|([A-Z][A-Z0-9_]+))\s+` +
	`(?:is\s+)?(?:not\s+set|unset)\W*$`)

// badOff is the error of a line that offRE matches and that turns nothing off.
func badOff(line string) error {
	m := offRE.FindStringSubmatch(line)
	return fmt.Errorf("%q is a comment to kconfig: want \"# CONFIG_%s is not set\", with its blanks", line,
		cmp.Or(m[1], m[2]))
}

// last drops every request that a later one for the same symbol replaces.
func last(reqs []Request) []Request {
	at := map[string]int{}
	for i, r := range reqs {
		at[r.Symbol] = i
	}
	var kept []Request
	for i, r := range reqs {
		if at[r.Symbol] == i {
			kept = append(kept, r)
		}
	}
	return kept
}

// merge takes what requests name out of a .config and adds it at its end, as scripts/kconfig/merge_config.sh does.
func merge(config []byte, reqs []Request) []byte {
	reqs = last(reqs)
	named := map[string]bool{}
	for _, r := range reqs {
		named[r.Symbol] = true
	}
	var out bytes.Buffer
	for line := range bytes.Lines(config) {
		if name, _ := kconfig.ParseLine(string(line)); !named[name] {
			out.Write(line)
		}
	}
	if b := out.Bytes(); len(b) > 0 && b[len(b)-1] != '\n' {
		out.WriteByte('\n')
	}
	for _, r := range reqs {
		out.WriteString(r.Line() + "\n")
	}
	return out.Bytes()
}

// Unmets lists the requests that the final configuration does not meet.
func Unmets(final kconfig.Config, reqs []Request) []Unmet {
	var list []Unmet
	for _, r := range last(reqs) {
		if got := final.Get(r.Symbol); !sameValue(r.Value, got) {
			list = append(list, Unmet{Request: r, Got: got})
		}
	}
	return list
}

// sameValue compares two values of a .config; numbers in whatever base.
func sameValue(a, b string) bool {
	if a == b {
		return true
	}
	m, errM := strconv.ParseInt(a, 0, 64)
	n, errN := strconv.ParseInt(b, 0, 64)
	if errM == nil && errN == nil {
		return m == n
	}
	return a == `""` && b == "n" // an empty string that was never set
}

// Unmet is a request that the final configuration does not meet.
type Unmet struct {
	Request
	Got string // the value it has in the final .config; n where it is absent
	Why string // in words, from the tree's Kconfig
}

// UnmetError says that the tree's kconfig did not take what was asked for.
type UnmetError struct {
	Version string
	Unmet   []Unmet
}

// TellsAll has what make said left out: it lists its own files.
func (e *UnmetError) TellsAll() {}

func (e *UnmetError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "configure Linux %s: not what was asked for", e.Version)
	for _, u := range e.Unmet {
		fmt.Fprintf(&b, "\n  %s (asked by %s) is %s", u.Request, u.Origin, u.Got)
		if u.Why != "" {
			b.WriteString(": " + u.Why)
		}
	}
	return b.String()
}
