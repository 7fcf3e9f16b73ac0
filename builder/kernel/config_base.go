package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/kimg/kimg/builder/kernel/kconfig"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/units"
)

// writtenBy is how kconfig heads a .config: "# Linux/x86 6.1.0 Kernel Configuration".
var writtenBy = regexp.MustCompile(`(?m)^# Linux/(\S+) (\S+) Kernel Configuration\r?$`)

// calledIn is how the tree's own make calls the version v: kconfig heads what it writes with it. What is known before
// is the text of a Makefile, of which make may compute a part, or a package's version.
func calledIn(config []byte, v units.KernelVersion) units.KernelVersion {
	m := writtenBy.FindSubmatch(config)
	if m == nil {
		return v
	}
	w, err := units.ParseKernelVersion(string(m[2]))
	if err != nil || w.Major != v.Major || w.Minor != v.Minor {
		return v
	}
	return w
}

// checkArch refuses what kconfig wrote for another architecture than a; text is a file of that name.
func checkArch(a arch.Arch, name string, text []byte) error {
	m := writtenBy.FindSubmatch(text)
	if m == nil || a == (arch.Arch{}) {
		return nil
	}
	of := string(m[1])
	if of == a.SourceDir || of == a.Kernel {
		return nil
	}
	return fmt.Errorf("read config %s: it was written for %s, by Linux %s: this kernel is for %s (%s)",
		name, of, m[2], a.Name, a.SourceDir)
}

// fileRequests are the symbols that the base file turns on or gives a value, by their names in a version. What it
// turns off is not requested: an absent symbol is off, too, and another symbol may select it.
func (c Config) fileRequests(version dialect) []Request {
	var reqs []Request
	n := 0
	for line := range bytes.Lines(c.File) {
		n++
		if sym, value := kconfig.ParseLine(string(line)); sym != "" && value != "n" {
			reqs = append(reqs, Request{sym, value, fmt.Sprintf("%s:%d", c.Base, n)})
		}
	}
	return translate(version, last(reqs))
}

// renamed are the lines of a base file that this version spells differently.
func renamed(version dialect, c Config) []Request {
	has := kconfig.ParseConfig(c.File)
	return slices.DeleteFunc(c.fileRequests(version), func(r Request) bool { return has.Get(r.Symbol) == r.Value })
}

// nameless are the requests to turn off what the tree has not: final meets them by definition. What another symbol
// was probably meant by is unmet where a person set it; the rest is told, as a fragment is for many versions.
func (w *worker) nameless(ctx context.Context, final []byte, reqs []Request) ([]Unmet, error) {
	there := map[string]bool{}
	for line := range bytes.Lines(final) {
		sym, _ := kconfig.ParseLine(string(line))
		there[sym] = true
	}
	off := slices.DeleteFunc(last(reqs), func(r Request) bool { return r.Value != "n" || there[r.Symbol] })
	if len(off) == 0 {
		return nil, nil
	}
	tree, files, err := w.kconfigTree(ctx)
	if err != nil {
		return nil, err
	}
	tree.Elsewhere(files)
	var unmet []Unmet
	for _, r := range off {
		if !tree.Absent(r.Symbol) || isRenamed(r.Symbol) {
			continue
		}
		why := tree.Explain(r.Symbol, "n", nil)
		if len(tree.Near(r.Symbol)) > 0 && strings.HasPrefix(r.Origin, setOrigin) {
			unmet = append(unmet, Unmet{Request: r, Got: "n", Why: why})
		} else {
			w.task.Warn(fmt.Sprintf("%s (asked by %s) turns nothing off: %s", r, r.Origin, why))
		}
	}
	return unmet, nil
}

// isRenamed reports whether a symbol has another name in some version.
func isRenamed(symbol string) bool {
	return hasNames(symbol) || symbol == "DEBUG_INFO_NONE" || slices.Contains(debugFormats, symbol)
}

// hasNames reports whether a symbol is in renames.
func hasNames(symbol string) bool {
	for _, n := range renames {
		if symbol == n.old || symbol == n.new {
			return true
		}
	}
	return false
}

// Check refuses a base file that cannot be a .config.
func (c Config) Check() error {
	if Builtin(c.Base) || bytes.Contains(c.File, []byte("CONFIG_")) {
		return errors.Join(checkArch(c.Arch.Or(), c.Base, c.File), c.checkOffs())
	}
	return fmt.Errorf("read config %s: not a kernel configuration: it names no CONFIG_ symbol", c.Base)
}

// checkOffs names the first line of a base file that was meant to turn a symbol off, and does not.
func (c Config) checkOffs() error {
	n := 0
	for line := range bytes.Lines(c.File) {
		n++
		text := strings.TrimRight(string(line), "\r\n")
		if sym, _ := kconfig.ParseLine(text); sym == "" && offRE.MatchString(text) {
			return fmt.Errorf("read config %s:%d: %w", c.Base, n, badOff(text))
		}
	}
	return nil
}

// renames are symbols that have another name from a version on. A request may use either name with any version.
var renames = []struct {
	old, new     string
	major, minor int
}{
	{"ORC_UNWINDER", "UNWINDER_ORC", 4, 15},
	{"FRAME_POINTER_UNWINDER", "UNWINDER_FRAME_POINTER", 4, 15},
	{"AUTOFS4_FS", "AUTOFS_FS", 4, 18},
	{"CC_STACKPROTECTOR", "STACKPROTECTOR", 4, 18},
	{"PAGE_TABLE_ISOLATION", "MITIGATION_PAGE_TABLE_ISOLATION", 6, 9},
	{"RETPOLINE", "MITIGATION_RETPOLINE", 6, 9},
	{"RETHUNK", "MITIGATION_RETHUNK", 6, 9},
	{"SPECULATION_MITIGATIONS", "CPU_MITIGATIONS", 6, 9},
}

// dialect is the names of one version's symbols.
type dialect struct {
	units.KernelVersion
	has map[string]bool // those of renames that the tree has; nil: what its version says
}

// later reports whether a tree uses the new name: a stable release takes over renames of later versions.
func (d dialect) later(old, new string, major, minor int) bool {
	if d.has[old] != d.has[new] {
		return d.has[new]
	}
	return d.AtLeast(major, minor)
}

// dialect asks the tree for the names that a configuration's requests may have in it.
func (w *worker) dialect(ctx context.Context, v units.KernelVersion, c Config) (dialect, error) {
	if !c.renames() {
		return dialect{KernelVersion: v}, nil
	}
	var names []string
	for _, n := range renames {
		names = append(names, n.old, n.new)
	}
	out, err := w.output(ctx, nil, 1<<20, "sh", "-c", renamesScript, "sh", srcDir, strings.Join(names, "|"))
	if err != nil {
		return dialect{}, fmt.Errorf("look for renamed symbols in the tree: %w", err)
	}
	d := dialect{v, map[string]bool{}}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 1 {
			d.has[f[1]] = true
		}
	}
	return d, nil
}

// renamesScript prints the definitions of the symbols $2 in the tree $1. grep fails where there are none.
const renamesScript = `cd "$1" && { find . -path ./` + objName + ` -prune -o -type f -name 'Kconfig*' -print0 |
xargs -0 -r grep -hE "^[[:blank:]]*(menu)?config[[:blank:]]+($2)[[:blank:]]*$" || true; }`

// renames reports whether anything is asked for that has another name in some version.
func (c Config) renames() bool {
	if slices.ContainsFunc(c.Requests, func(r Request) bool { return hasNames(r.Symbol) }) {
		return true
	}
	for line := range bytes.Lines(c.File) {
		if sym, _ := kconfig.ParseLine(string(line)); sym != "" && hasNames(sym) {
			return true
		}
	}
	return false
}

// translate rewrites requests into the names of one version: renamed symbols, and debug information.
func translate(version dialect, reqs []Request) []Request {
	out := make([]Request, 0, len(reqs))
	for _, r := range reqs {
		for _, n := range renames {
			if later := version.later(n.old, n.new, n.major, n.minor); later && r.Symbol == n.old {
				r.Symbol = n.new
			} else if !later && r.Symbol == n.new {
				r.Symbol = n.old
			}
		}
		out = append(out, r)
	}
	return debugInfo(version.KernelVersion, out)
}

// debugFormats are the ways DEBUG_INFO can be asked for from 5.18 on.
var debugFormats = []string{"DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT", "DEBUG_INFO_DWARF4", "DEBUG_INFO_DWARF5"}

// debugInfo translates DEBUG_INFO. From 5.18 it has no prompt: the choice of a
// format turns it on, and DEBUG_INFO_NONE turns it off. Before 5.12 there was
// no word for the compiler's own format: it was what DEBUG_INFO alone meant.
func debugInfo(version units.KernelVersion, reqs []Request) []Request {
	choice := version.AtLeast(5, 18)
	named := slices.ContainsFunc(reqs, func(r Request) bool {
		return slices.Contains(debugFormats, r.Symbol) && r.Value == "y"
	})
	var out []Request
	for _, r := range reqs {
		as := func(symbol, value string) Request { return Request{symbol, value, r.Origin} }
		switch {
		case r.Symbol == "DEBUG_INFO" && choice && r.Value == "y":
			out = append(out, r, as("DEBUG_INFO_NONE", "n"))
			if !named {
				out = append(out, as("DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT", "y"))
			}
		case r.Symbol == "DEBUG_INFO" && choice:
			for _, f := range debugFormats {
				out = append(out, as(f, "n"))
			}
			out = append(out, r, as("DEBUG_INFO_NONE", "y"))
		case r.Symbol == "DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT" && r.Value == "y" && !version.AtLeast(5, 12):
			out = append(out, as("DEBUG_INFO", "y"))
		case r.Symbol == "DEBUG_INFO_NONE" && r.Value == "y" && !choice:
			out = append(out, as("DEBUG_INFO", "n"))
		case slices.Contains(debugFormats, r.Symbol) && r.Value == "y" && choice:
			// The other formats of the choice give way, whoever asked for them before.
			for _, f := range debugFormats {
				if f != r.Symbol {
					out = append(out, as(f, "n"))
				}
			}
			out = append(out, as("DEBUG_INFO_NONE", "n"), r)
		default:
			out = append(out, r)
		}
	}
	return out
}
