package kernel

import (
	"slices"

	"github.com/kimg/kimg/internal/units"
)

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

// translate rewrites requests into the names of one version of the kernel:
// renamed symbols, and debug information, which became a choice in 5.18.
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
