package splat

import (
	"regexp"
	"strconv"
	"strings"
)

var (
	cpuRE = regexp.MustCompile(`^CPU: (\d+) (?:UID: \d+ )?PID: (\d+) Comm: (.{0,64}?) (?:Kdump: loaded )?` +
		`(Not tainted|Tainted: [A-Z ]+?) +(\d\S*) (#.*)$`)
	buildRE = regexp.MustCompile(` ([0-9a-f]{40})$`)
	taskRE  = regexp.MustCompile(`^task:(.{1,64}?) +state:`)
	// Of a lock that is held when a task returns to user space.
	leavesRE = regexp.MustCompile(`^(.{1,64}?)/(\d+) is leaving the kernel with locks still held!$`)
	// bareRE is a return address that has no function any more: of code that ran once and was freed, or is no module's.
	bareRE  = regexp.MustCompile(`^[ \t]*(?:\? )?0x[0-9a-f]{8,16}$`)
	frameRE = regexp.MustCompile(`^[ \t]*(?:\[<[0-9a-f]+>\] |\[[0-9a-f]{16}\] \[[0-9a-f]{16}\] )?(\? )?` +
		`([A-Za-z_][\w.$]*)\+0x([0-9a-f]{1,16})/0x([0-9a-f]{1,16})(?: \[([\w-]+)(?: ([0-9a-f]{6,40}))?\])?` +
		`(?: \(([A-Z/]+|unreliable)\))?(?: +\S+:\d+)?$`)
	ripRE = regexp.MustCompile(`^(?:RIP: 0010:|pc : |epc ?: |NIP \[[0-9a-f]+\] )(?:\[<[0-9a-f]+>\] )?` +
		`([A-Za-z_][\w.$]*)\+0x([0-9a-f]{1,16})/0x([0-9a-f]{1,16})(?: \[([\w-]+)(?: ([0-9a-f]{6,40}))?\])?`)
	atRE = regexp.MustCompile(` at (?:(\S+:\d+) )?(?:at )?([A-Za-z_][\w.$]*)\+0x([0-9a-f]{1,16})/0x([0-9a-f]{1,16})` +
		`(?: \[([\w-]+)(?: ([0-9a-f]{6,40}))?\])?(?:,|$)`)
	contextRE = regexp.MustCompile(`^ ?<(/?)(#?[A-Z0-9]{2,10})>$`)
	placeRE   = regexp.MustCompile(` at (\S+:\d+)`)
)

// add takes a line as one of the report's.
func (o *open) add(l line) {
	if len(o.Text) < maxText {
		o.Text = append(o.Text, l.text)
	}
	o.stamp = l.stamp
	if at, known := o.stageOf(l.text); known {
		o.past = max(o.past, at)
	}
	if o.stack(l.text) {
		return
	}
	if m := cpuRE.FindStringSubmatch(l.text); m != nil && o.Release == "" {
		o.CPU, o.PID, o.Task = number(m[1]), number(m[2]), m[3]
		if o.Taints, o.Release = strings.TrimPrefix(m[4], "Tainted: "), m[5]; m[4] == "Not tainted" {
			o.Taints = ""
		}
		o.Taints = strings.Join(strings.Fields(o.Taints), " ")
		if m := buildRE.FindStringSubmatch(m[6]); m != nil {
			o.BuildID = m[1]
		}
	}
	if m := taskRE.FindStringSubmatch(l.text); m != nil && o.Task == "" {
		o.Task = m[1]
	}
	if m := leavesRE.FindStringSubmatch(l.text); m != nil && o.Kind == Lockdep {
		o.Task, o.PID, o.leaves = m[1], number(m[2]), true
	}
	if strings.HasPrefix(l.text, "KASAN: ") && o.Kind == Oops { // it explains the fault
		o.message = append(o.message, l.text)
	}
	if registerRE.MatchString(l.text) && len(o.Registers) < maxFrames {
		o.Registers = append(o.Registers, l.text)
	}
}

func number(text string) *int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return nil
	}
	return &n
}

// stack takes a line of a stack, or of what is around one.
func (o *open) stack(text string) bool {
	if strings.HasPrefix(text, "Call Trace:") || strings.HasPrefix(text, "Call trace:") {
		o.trace(o.name)
		o.traced = true
		return true
	}
	if m := contextRE.FindStringSubmatch(text); m != nil {
		if o.context = m[2]; m[1] == "/" {
			o.context = ""
		}
		return true
	}
	if m := ripRE.FindStringSubmatch(text); m != nil {
		f := frame(m[1:], false)
		switch {
		case o.inTrace:
			o.frame(f)
		case o.At == nil:
			o.At = &f
		}
		return false // it is a register, too
	}
	if m := frameRE.FindStringSubmatch(text); m != nil {
		if !o.inTrace {
			o.trace(o.name)
		}
		f := frame(m[2:], true)
		f.Unreliable = m[1] != "" || m[len(m)-1] == "unreliable" // powerpc
		f.Return = !strings.Contains(m[len(m)-1], "P") && !o.interrupted(f)
		o.frame(f)
		return true
	}
	if o.inTrace && bareRE.MatchString(text) {
		return true
	}
	if registerRE.MatchString(text) || text == "" && !o.inTrace {
		return false // an interrupt's registers may be within a stack
	}
	o.inTrace, o.context = false, ""
	switch name, ok := strings.CutSuffix(text, ":"); {
	case ok && name != "stack backtrace" && name != "Modules linked in":
		o.name = strings.TrimSpace(name)
	case strings.HasPrefix(text, "NMI backtrace for cpu "):
		o.name = text
	case strings.HasPrefix(text, "Allocated in "), strings.HasPrefix(text, "Freed in "): // SLUB
		o.name = text
	case !strings.HasPrefix(text, "CPU: ") && !strings.HasPrefix(text, "Hardware name: ") && text != "":
		o.name = ""
	}
	if m := atRE.FindStringSubmatch(text); m != nil && o.At == nil && (strings.HasPrefix(text, "WARNING: ")) {
		f := frame(m[2:], false)
		o.At = &f
	}
	return false
}

// interruptedRE matches what arm64 and riscv enter by from the kernel itself: the next frame is where that was.
var interruptedRE = regexp.MustCompile(`^(?:el1[ht]?_(?:64_)?(?:sync|irq|fiq|error)|handle_exception|` +
	`ret_from_exception)$`)

// interrupted says whether the next frame of the stack is no return address, but an instruction: arm64, riscv and
// powerpc begin a stack with the one that the registers have, and since 6.13 arm64 says so itself: "(P)".
func (o *open) interrupted(f Frame) bool {
	if len(o.Traces) == 0 {
		return false
	}
	switch frames := o.Traces[len(o.Traces)-1].Frames; {
	case len(frames) == 0:
		return o.At != nil && f.Function == o.At.Function && f.Offset == o.At.Offset
	default:
		return interruptedRE.MatchString(frames[len(frames)-1].Function)
	}
}

// trace begins a stack.
func (o *open) trace(name string) {
	o.inTrace, o.context, o.name = true, "", ""
	if len(o.Traces) < maxTraces {
		o.Traces = append(o.Traces, Trace{Name: name})
	}
}

func (o *open) frame(f Frame) {
	if o.frames++; o.frames > maxFrames || len(o.Traces) == 0 {
		return
	}
	f.Context = o.context
	t := &o.Traces[len(o.Traces)-1]
	t.Frames = append(t.Frames, f)
}

// frame is made of a function, its offset, its size, its module and that one's build ID.
func frame(m []string, returns bool) Frame {
	f := Frame{Function: m[0], Return: returns}
	f.Offset, _ = strconv.ParseUint(m[1], 16, 64) // 16 digits at most
	f.Size, _ = strconv.ParseUint(m[2], 16, 64)
	if len(m) > 4 {
		f.Module, f.BuildID = m[3], m[4]
	}
	return f
}
