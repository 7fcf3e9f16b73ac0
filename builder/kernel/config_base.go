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

// ofThisVersion says whether a .config was made for the tree's version: written by its kconfig, or by hand. One
// that another version wrote names symbols that came and went.
func ofThisVersion(file []byte, v units.KernelVersion) bool {
	m := writtenBy.FindSubmatch(file)
	if m == nil {
		return true
	}
	w, err := units.ParseKernelVersion(string(m[2]))
	return err == nil && w.Major == v.Major && w.Minor == v.Minor
}

// checkArch refuses what kconfig wrote for another architecture; text is a file of that name.
func checkArch(name string, text []byte) error {
	m := writtenBy.FindSubmatch(text)
	if m == nil {
		return nil
	}
	of, a := string(m[1]), arch.Default
	if of == a.SourceDir || of == a.Kernel {
		return nil
	}
	return fmt.Errorf("read config %s: it was written for %s, by Linux %s: kimg makes kernels for %s (%s)",
		name, of, m[2], a.Name, a.SourceDir)
}

// fileRequests are the symbols that the base file turns on or gives a value, by their names in a version. What it
// turns off is not requested: an absent symbol is off, too, and another symbol may select it.
func (c Config) fileRequests(version units.KernelVersion) []Request {
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
func renamed(version units.KernelVersion, c Config) []Request {
	has := kconfig.ParseConfig(c.File)
	return slices.DeleteFunc(c.fileRequests(version), func(r Request) bool { return has.Get(r.Symbol) == r.Value })
}

// lost are the lines of a user's own base config that did not survive, with the reasons. Lines that a later request
// changes are not lost, and neither is what a tree sets by itself, such as the compiler's version.
func (w *worker) lost(ctx context.Context, c Config, version units.KernelVersion, final kconfig.Config,
	requested []Request) ([]Unmet, error) {
	if Builtin(c.Base) {
		return nil, nil
	}
	later := map[string]bool{}
	for _, r := range slices.Concat(own("same.config", sameConfig, version), requested) {
		later[r.Symbol] = true
	}
	reqs := slices.DeleteFunc(c.fileRequests(version), func(r Request) bool { return later[r.Symbol] })
	list := Unmets(final, reqs)
	if len(list) == 0 {
		return nil, nil
	}
	tree, files, err := w.kconfigTree(ctx)
	if err != nil {
		return nil, err
	}
	tree.Elsewhere(files)
	var lost, gone []Unmet
	for _, u := range list {
		u.Why = tree.Explain(u.Symbol, u.Value, final)
		switch {
		case tree.Symbols[u.Symbol] == nil:
			gone = append(gone, u)
		case tree.Prompted(u.Symbol) && (u.Value != "m" || u.Got != "y"):
			lost = append(lost, u)
		}
	}
	return append(lost, gone...), nil // what could still be had comes first
}

// keepsFile refuses to lose lines of the user's own base config. Where another version wrote it, it warns.
func (w *worker) keepsFile(ctx context.Context, c Config, version units.KernelVersion, final kconfig.Config,
	requested []Request) error {
	lost, err := w.lost(ctx, c, version, final, requested)
	switch {
	case err != nil:
		w.task.Warn("whether all of " + c.Base + " survived is not known: " + err.Error())
	case len(lost) == 0:
	case ofThisVersion(c.File, version):
		return &UnmetError{Version: version.String(), Unmet: lost}
	default:
		w.task.Warn(lostWarning(c, version, lost))
	}
	return nil
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
	for _, n := range renames {
		if symbol == n.old || symbol == n.new {
			return true
		}
	}
	return symbol == "DEBUG_INFO_NONE" || slices.Contains(debugFormats, symbol)
}

const shown = 5

func lostWarning(c Config, version units.KernelVersion, lost []Unmet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s was written by Linux %s; %d of its options did not survive in Linux %s:",
		c.Base, writtenBy.FindSubmatch(c.File)[2], len(lost), version)
	for i, u := range lost {
		if i == shown {
			fmt.Fprintf(&b, "\n  and %d more: kimg config --diff lists them all", len(lost)-shown)
			break
		}
		fmt.Fprintf(&b, "\n  %s is %s: %s", u.Request, u.Got, u.Why)
	}
	return b.String()
}

// Check refuses a base file that cannot be a .config.
func (c Config) Check() error {
	if Builtin(c.Base) || bytes.Contains(c.File, []byte("CONFIG_")) {
		return errors.Join(checkArch(c.Base, c.File), c.checkOffs())
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

// translate rewrites requests into the names of one version: renamed symbols, and debug information.
func translate(version units.KernelVersion, reqs []Request) []Request {
	out := make([]Request, 0, len(reqs))
	for _, r := range reqs {
		for _, n := range renames {
			if later := version.AtLeast(n.major, n.minor); later && r.Symbol == n.old {
				r.Symbol = n.new
			} else if !later && r.Symbol == n.new {
				r.Symbol = n.old
			}
		}
		out = append(out, r)
	}
	return debugInfo(version, out)
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
