package gdb

import (
	"cmp"
	"debug/elf"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kimg/kimg/internal/elffile"
)

// successors are functions that books and tutorials stop at, and what later kernels have instead, the nearest first.
var successors = map[string][]string{
	"do_fork":                    {"kernel_clone", "_do_fork"}, // 5.10, 4.2
	"_do_fork":                   {"kernel_clone", "do_fork"},
	"kernel_clone":               {"_do_fork", "do_fork"},
	"do_sys_open":                {"do_sys_openat2"}, // 5.6
	"do_sys_openat2":             {"do_sys_open"},
	"do_execve":                  {"do_execveat_common", "__do_execve_file"},
	"do_execve_common":           {"do_execveat_common", "__do_execve_file"}, // 3.19
	"do_page_fault":              {"exc_page_fault", "do_user_addr_fault"},   // 5.8
	"__do_page_fault":            {"do_user_addr_fault", "handle_page_fault"},
	"do_IRQ":                     {"common_interrupt", "__common_interrupt"},
	"smp_apic_timer_interrupt":   {"sysvec_apic_timer_interrupt"},
	"do_nmi":                     {"exc_nmi"},
	"do_debug":                   {"exc_debug"},
	"do_int3":                    {"exc_int3"},
	"do_divide_error":            {"exc_divide_error"},
	"do_invalid_op":              {"exc_invalid_op"},
	"do_general_protection":      {"exc_general_protection"},
	"__do_softirq":               {"handle_softirqs"}, // 6.10
	"do_mount":                   {"path_mount"},      // 5.9
	"generic_make_request":       {"submit_bio_noacct"},
	"blk_mq_make_request":        {"blk_mq_submit_bio"},
	"do_generic_file_read":       {"filemap_read", "generic_file_buffered_read"},
	"generic_file_buffered_read": {"filemap_read"},
	"do_sync_read":               {"new_sync_read"},
	"do_sync_write":              {"new_sync_write"},
	"probe_kernel_read":          {"copy_from_kernel_nofault"}, // 5.8
	"probe_kernel_write":         {"copy_to_kernel_nofault"},
	"prepare_binprm":             {"bprm_creds_from_file"},
	"search_binary_handler":      {"bprm_execve", "exec_binprm"},
	"mmap_region":                {"__mmap_region"},
	"kmalloc":                    {"__kmalloc_noprof", "__kmalloc"}, // inlined into its callers
	"kzalloc":                    {"__kmalloc_noprof", "__kmalloc"},
	"do_coredump":                {"vfs_coredump"},
	"system_call":                {"do_syscall_64"},
	"entry_SYSCALL_64":           {"do_syscall_64"},
}

// callPrefixes are those that a system call's function had, or has: SYSCALL_DEFINE gave it SyS_ until 4.16, and gives
// it __x64_sys_ and the like since 4.17.
var callPrefixes = []string{"__x64_sys_", "__se_sys_", "__do_sys_", "__arm64_sys_", "sys_", "SyS_", "SYSC_", "stub_"}

// Became are the functions of this kernel that one by a name of other kernels became, the nearest first.
func (s *Symbols) Became(at string) []string {
	want := at[strings.LastIndexByte(at, ':')+1:]
	candidates := slices.Concat(successors[want], successors[strings.ToLower(want)])
	for _, p := range callPrefixes {
		if call, ok := strings.CutPrefix(want, p); ok && call != "" {
			for _, q := range callPrefixes {
				candidates = append(candidates, q+call)
			}
			candidates = append(candidates, successors["do_sys_"+call]...)
		}
	}
	// Counting allocations by their callers took the plain names in 6.10.
	candidates = append(candidates, want+"_noprof", strings.ToLower(want))
	has := map[string]bool{}
	for _, f := range s.Functions {
		has[f] = true
	}
	var out []string
	for _, c := range candidates {
		if c != want && has[c] && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out[:min(len(out), 2)]
}

// maxModule bounds a module that is looked into, in bytes.
const maxModule = 1 << 30

// InModule is the file of the module, below Modules, that has a function; empty: none has.
func (s *Symbols) InModule(at string) string {
	want := at[strings.LastIndexByte(at, ':')+1:]
	if s.Modules == "" || want == "" || want[0] == '*' {
		return ""
	}
	found := ""
	// What cannot be read has no answer: the question is only how an error is worded.
	_ = filepath.WalkDir(s.Modules, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasSuffix(path, ".ko") && defines(path, want) {
			if found, err = filepath.Rel(s.Modules, path); err == nil {
				return filepath.SkipAll
			}
		}
		return nil
	})
	return found
}

func defines(module, function string) bool {
	file, err := os.Open(module)
	if err != nil {
		return false
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || info.Size() > maxModule {
		return false
	}
	f, err := elffile.Open(file, info.Size())
	if err != nil {
		return false
	}
	return slices.ContainsFunc(f.Symbols, func(s elf.Symbol) bool {
		return s.Name == function && elf.ST_TYPE(s.Info) == elf.STT_FUNC && s.Section != elf.SHN_UNDEF
	})
}

// moduleName is a module's own name, by its file.
func moduleName(file string) string {
	return strings.ReplaceAll(strings.TrimSuffix(filepath.Base(file), ".ko"), "-", "_")
}

// NoBreakError says that this kernel has no such place to stop at.
type NoBreakError struct {
	Break    string
	Became   []string // what a function of that name became in this kernel
	Variable bool     // it is one
	Module   string   // the file of the module that has it
	Near     []string // names that it does have
	Msg      string   // gdb's message
	Expected bool     // a stop is expected there, not requested
}

func (e *NoBreakError) Error() string {
	verb := "break at"
	if e.Expected {
		verb = "expect"
	}
	msg := trimStop(e.Msg)
	switch {
	case e.Variable:
		msg = "it is a variable, and no function"
	case e.Module != "":
		msg = "it is in the module " + moduleName(e.Module) + ", which is not there before the guest loads it"
	}
	return verb + " " + e.Break + ": " + msg
}

// Hint names what this kernel has.
func (e *NoBreakError) Hint() string {
	function := e.Break[strings.LastIndexByte(e.Break, ':')+1:]
	switch {
	case e.Variable:
		return "in kimg debug, at gdb's prompt: watch " + function + " stops where it changes, print shows it"
	case len(e.Became) > 0:
		return "in this kernel " + function + " is " + strings.Join(e.Became, " or ")
	case e.Module != "":
		return "build it in (its option as y, not m); or, in kimg debug without this breakpoint, load " +
			moduleName(e.Module) + " in the guest, then in gdb: lx-symbols, break " + function
	case len(e.Near) > 0:
		return "this kernel has " + strings.Join(e.Near, ", ")
	}
	return ""
}

// noBreak is the error of a place that gdb refused.
func (s *Symbols) noBreak(at, msg string) *NoBreakError {
	e := &NoBreakError{Break: at, Became: s.Became(at), Near: s.Near(at), Msg: cmp.Or(msg, "there is none"),
		Variable: s.Variables[at]}
	if len(e.Became) == 0 {
		e.Module = s.InModule(at)
	}
	return e
}
