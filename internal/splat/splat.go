// Package splat reads a kernel's log, as its serial console says it, and finds what the kernel complains of: oopses,
// warnings, what the sanitizers, lockdep and the watchdogs report, panics. A [Reader] takes the log in pieces and
// yields [Report]s. Where the functions of a report are in the source is for others to fill in: see [Report.Frames].
//
// The formats are those of Linux 5.4 to 6.18 on x86-64, and where they are as simple of arm64 and riscv. Their
// sources are in the kernel's tree: lib/dump_stack.c, kernel/panic.c, arch/x86/kernel/{dumpstack,traps}.c,
// arch/x86/mm/fault.c, mm/{kasan,kfence,kmsan}/report.c, kernel/kcsan/report.c, lib/ubsan.c, kernel/locking/lockdep.c,
// kernel/rcu/tree_stall.h, kernel/watchdog.c, kernel/hung_task.c, mm/slub.c, mm/page_alloc.c.
package splat

import (
	"cmp"
	"fmt"
	"strings"
)

// Kind says what sort of thing was found. It is coarse; a Report's Detail is finer.
type Kind string

// The kinds.
const (
	Warning         Kind = "warning"          // WARN
	Bug             Kind = "bug"              // BUG, and "BUG:" of no other kind
	Oops            Kind = "oops"             // a fault: a page, a protection, an opcode, a division, a stack
	KASAN           Kind = "kasan"            // accesses that are out of bounds, or after a free
	KCSAN           Kind = "kcsan"            // data races
	KFENCE          Kind = "kfence"           // as KASAN, by chance
	KMSAN           Kind = "kmsan"            // uninitialised memory
	UBSAN           Kind = "ubsan"            // undefined behaviour of C
	Lockdep         Kind = "lockdep"          // locks taken in an order or context that can deadlock
	RCUUsage        Kind = "rcu-usage"        // suspicious RCU usage
	RCUStall        Kind = "rcu-stall"        // a grace period does not end
	HungTask        Kind = "hung-task"        // a task sleeps for minutes
	SoftLockup      Kind = "soft-lockup"      // a CPU does not schedule
	HardLockup      Kind = "hard-lockup"      // a CPU takes no interrupts
	WorkqueueLockup Kind = "workqueue-lockup" // a pool of workers is stuck
	Kmemleak        Kind = "kmemleak"         // memory that nothing points to
	Refcount        Kind = "refcount"         // a reference counter that went wrong
	List            Kind = "list"             // a corrupted list
	Slab            Kind = "slab"             // a corrupted object of the allocator
	BadPage         Kind = "bad-page"         // a corrupted page, or page table
	Atomic          Kind = "atomic"           // scheduling while atomic
	Sleep           Kind = "sleep"            // a function that sleeps was called where it must not
	Preemptible     Kind = "preemptible"      // what belongs to a CPU was used where the task may move
	Spinlock        Kind = "spinlock"         // a spinlock or rwlock that is misused
	Usercopy        Kind = "usercopy"         // a copy to or from user space that leaves its object
	Fortify         Kind = "fortify"          // a memcpy and the like that leaves its object
	ODEBUG          Kind = "odebug"           // a timer or work that is freed while it is active
	CFI             Kind = "cfi"              // an indirect call to a function of another type
	StackProtector  Kind = "stack-protector"  // a function's stack frame was overwritten
	Panic           Kind = "panic"            // a panic that is no consequence of another report
)

// Kinds are all kinds.
var Kinds = []Kind{Warning, Bug, Oops, KASAN, KCSAN, KFENCE, KMSAN, UBSAN, Lockdep, RCUUsage, RCUStall, HungTask,
	SoftLockup, HardLockup, WorkqueueLockup, Kmemleak, Refcount, List, Slab, BadPage, Atomic, Sleep, Preemptible,
	Spinlock, Usercopy, Fortify, ODEBUG, CFI, StackProtector, Panic}

// Report is one complaint of the kernel's.
type Report struct {
	Kind   Kind   `json:"kind"`
	Detail string `json:"detail,omitempty"` // such as slab-use-after-free
	Title  string `json:"title"`            // for people, one line
	// Key names the fault, the same in every build: the kind, the detail and the function, without addresses.
	Key      string `json:"key"`
	Function string `json:"function,omitempty"` // that it is about, without what a compiler adds to its name
	Time     string `json:"time,omitempty"`     // seconds since the boot, as the log has them
	CPU      *int   `json:"cpu,omitempty"`
	Task     string `json:"task,omitempty"`
	PID      *int   `json:"pid,omitempty"`
	Taints   string `json:"taints,omitempty"`
	Release  string `json:"release,omitempty"`  // of the kernel
	BuildID  string `json:"build_id,omitempty"` // of the kernel, where it says
	Panic    string `json:"panic,omitempty"`    // the kernel panicked over it, with these words

	At        *Frame   `json:"at,omitempty"` // the instruction
	Traces    []Trace  `json:"traces,omitempty"`
	Registers []string `json:"registers,omitempty"` // lines as they are
	Text      []string `json:"text"`                // all lines, without times
	Line      int      `json:"line"`                // the first one's number in the log
	Again     int      `json:"again,omitempty"`     // how many more came of the same key, and are not kept
	Truncated bool     `json:"truncated,omitempty"` // the log ends, or something else begins, within it
	// Mixed says that another CPU's report came between its lines, in a log that does not say whose a line is.
	Mixed bool `json:"mixed,omitempty"`
}

// Trace is one stack.
type Trace struct {
	Name   string  `json:"name,omitempty"` // such as "Freed by task 73"; empty: the stack where it was noticed
	Frames []Frame `json:"frames"`         // the innermost first
}

// Frame is a place in a function.
type Frame struct {
	Function   string `json:"function"`
	Offset     uint64 `json:"offset"`
	Size       uint64 `json:"size"` // of the function
	Module     string `json:"module,omitempty"`
	BuildID    string `json:"build_id,omitempty"` // of the module
	Unreliable bool   `json:"unreliable,omitempty"`
	Context    string `json:"context,omitempty"` // TASK, IRQ, NMI ...
	Return     bool   `json:"-"`                 // it is where a call returns to: the call is before it

	// Source is where it is: the innermost inlined function first, the function itself last; none: not known.
	Source []Place `json:"source,omitempty"`
}

// Place is a line of source.
type Place struct {
	Function string `json:"function"`
	File     string `json:"file,omitempty"` // in the kernel's tree, where it is known
	Line     int    `json:"line,omitempty"`
}

// String reads "fs/open.c:1416".
func (p Place) String() string { return fmt.Sprintf("%s:%d", cmp.Or(p.File, "??"), p.Line) }

// String reads as the kernel writes it.
func (f Frame) String() string {
	text := fmt.Sprintf("%s+%#x/%#x", f.Function, f.Offset, f.Size)
	if f.Unreliable {
		text = "? " + text
	}
	if f.Module != "" {
		text += " [" + f.Module + "]"
	}
	return text
}

// Frames yields every frame, for its Source to be filled in.
func (r *Report) Frames(yield func(*Frame) bool) {
	if r.At != nil && !yield(r.At) {
		return
	}
	for t := range r.Traces {
		for f := range r.Traces[t].Frames {
			if !yield(&r.Traces[t].Frames[f]) {
				return
			}
		}
	}
}

// String is the title with who it was.
func (r *Report) String() string {
	text := r.Title
	if r.Task != "" {
		text = strings.TrimSuffix(text, ".") + ", by " + r.Task
		if r.PID != nil {
			text += fmt.Sprintf(" (pid %d)", *r.PID)
		}
	}
	return text
}

// Lines is the report in lines for people: the title, and each stack with its places.
func (r *Report) Lines() []string {
	lines := []string{r.String()}
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if r.Panic != "" && !strings.Contains(r.Title, r.Panic) {
		say("  the kernel panicked: %s", r.Panic)
	}
	if r.At != nil {
		say("  at %s", r.At)
		lines = append(lines, r.At.places("    ")...)
	}
	for _, t := range r.Traces {
		say("  %s:", cmp.Or(t.Name, "call trace"))
		for _, f := range t.Frames {
			say("    %s", f)
			lines = append(lines, f.places("      ")...)
		}
	}
	if r.Again > 0 {
		say("  (and %d times more)", r.Again)
	}
	if r.Truncated {
		say("  (its end is not in the log)")
	}
	if r.Mixed {
		say("  (another CPU's lines may be among these: a kernel with PRINTK_CALLER tells them apart)")
	}
	return lines
}

// places are lines for a frame's source.
func (f *Frame) places(indent string) (lines []string) {
	for i, p := range f.Source {
		what := ""
		if i < len(f.Source)-1 {
			what = " (inlined)"
		}
		lines = append(lines, fmt.Sprintf("%s%s at %s%s", indent, p.Function, p, what))
	}
	return lines
}

// BaseName is a function's name without what a compiler adds to that of a copy (foo.isra.0, foo.cold).
func BaseName(function string) string {
	base, _, _ := strings.Cut(function, ".")
	return cmp.Or(base, function)
}
