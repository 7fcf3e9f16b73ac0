package splat

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// judge says what the report is of, once all its lines are there.
func (o *open) judge() {
	o.Traces = slices.DeleteFunc(o.Traces, func(t Trace) bool { return len(t.Frames) == 0 })
	o.Detail = cmp.Or(o.head.detail, o.said["detail"])
	if o.Task == "" || o.Kind == HungTask { // the CPU is the watchdog's there
		if task := o.said["task"]; task != "" {
			o.Task, o.PID = task, number(o.said["pid"])
		}
	}
	if o.PID == nil {
		o.PID = number(o.said["pid"])
	}
	if o.Kind == HungTask {
		o.CPU = nil
	}
	o.refine()
	o.Function = BaseName(o.function())
	if o.Function == "" {
		o.Function = BaseName(o.said["func"])
	}
	o.Detail = strings.ToLower(strings.Join(strings.Fields(strings.ReplaceAll(o.Detail, ":", "")), "-"))
	o.Title = o.title()
	key := string(o.Kind)
	if o.Detail != "" {
		key += " " + o.Detail
	}
	switch both := o.racing(); {
	case len(both) > 0:
		key += " in " + strings.Join(both, " / ")
	case o.Function != "":
		key += " in " + o.Function
	}
	o.Key = key
}

var (
	exceptionRE = regexp.MustCompile(`(?i)(?:Oops: |Internal error: )*(general protection|invalid opcode|` +
		`divide error|stack segment|double fault|undefined instruction|stack-protector|UBSAN[^:]*: [\w -]+)`)
	raceRE     = regexp.MustCompile(` in ([A-Za-z_][\w.$]*) / ([A-Za-z_][\w.$]*)`)
	protectsRE = regexp.MustCompile(`^stack-protector: Kernel stack is corrupted in: ([A-Za-z_][\w.$]*)`)
	kasanRE    = regexp.MustCompile(`^KASAN: (?:probably |maybe )?([\w-]+)` /* kasan_non_canonical_hook */)
	refRE      = regexp.MustCompile(`^refcount_t: (.*?)\.?$`)
	listRE     = regexp.MustCompile(`^(list_(?:add|del) corruption|list_add double add|slist_\w+ corruption)`)
	odebugRE   = regexp.MustCompile(`^ODEBUG: (\w+) (\w+)`)
	fortifyRE  = regexp.MustCompile(`^(?:detected buffer overflow in (\w+)|(\w+): detected buffer overflow|` +
		`memcpy: detected field-spanning|(mem\w+|str\w+): detected field-spanning)`)
	releaseRE = regexp.MustCompile(` is trying to (?:release lock|contend lock) \(.*\) at:$`)
	workRE    = regexp.MustCompile(`^ +(?:last function: |preempt=0x.* workfn=)([A-Za-z_][\w.$]*)`)
	dependsRE = regexp.MustCompile(` at: ([A-Za-z_][\w.$]*)\+0x`)
)

// refine makes a special kind of a general one, by what was said with it.
func (o *open) refine() {
	said := append(slices.Clone(o.message), o.Text[:min(len(o.Text), 12)]...)
	find := func(re *regexp.Regexp) []string {
		for _, text := range said {
			if m := re.FindStringSubmatch(text); m != nil {
				return m
			}
		}
		return nil
	}
	switch o.Kind {
	case Warning, Bug:
		if m := find(refRE); m != nil {
			o.Kind, o.Detail = Refcount, m[1]
			if _, after, ok := strings.Cut(m[1], "; "); ok {
				o.Detail = after
			}
		} else if m := find(listRE); m != nil {
			o.Kind, o.Detail = List, m[1]
		} else if m := find(odebugRE); m != nil {
			o.Kind, o.Detail = ODEBUG, m[1]+" "+m[2]
		} else if m := find(fortifyRE); m != nil {
			o.Kind, o.Detail = Fortify, cmp.Or(m[1], m[2], m[3], "memcpy")
		} else if slices.ContainsFunc(said, func(s string) bool {
			return strings.HasPrefix(s, "usercopy: ") || strings.Contains(s, "usercopy whitelist") ||
				strings.HasPrefix(s, "Buffer overflow detected (") // from 6.2 on: copy_overflow
		}) {
			o.Kind, o.Detail = Usercopy, ""
		}
		if slices.ContainsFunc(said, func(s string) bool { return strings.HasPrefix(s, "CFI failure at ") }) {
			o.Kind = CFI
		}
	case Oops:
		if m := find(kasanRE); m != nil && o.Detail != "stack-overflow" {
			o.Detail = m[1]
		} else if o.Detail == "" {
			o.Detail = "fault"
			if m := find(exceptionRE); m != nil {
				if o.Detail = strings.ToLower(m[1]); o.Detail == "general protection" {
					o.Detail = "general-protection-fault"
				}
			}
		}
	case KASAN:
		o.Detail = cmp.Or(o.Detail, "access")
	case Panic:
		o.Panic = o.Detail
		o.Detail = ""
		if protectsRE.MatchString(o.Panic) {
			o.Kind = StackProtector
		} else if strings.Contains(o.Panic, "stack overflow") {
			o.Kind, o.Detail = Oops, "stack-overflow"
		} else if strings.HasPrefix(o.Panic, "corrupted stack end") {
			o.Kind, o.Detail = Oops, "stack-overflow"
		}
	case UBSAN:
		o.Detail = strings.ToLower(o.Detail)
	case Slab:
		if _, what, ok := strings.Cut(o.first, "): "); ok {
			o.Detail, _, _ = strings.Cut(what, ". ")
			o.Detail = hexRE.ReplaceAllString(o.Detail, "")
		}
	}
}

// hexRE matches what is different at each run.
var hexRE = regexp.MustCompile(`\b0x[0-9a-f]+\b|\b[0-9a-f]{12,16}\b|@`)

// inModuleRE matches a report's first line whose function is of a module.
var inModuleRE = regexp.MustCompile(` in [\w.$]+\+0x[0-9a-f]+/0x[0-9a-f]+ \[\w+\]$`)

// racing are the two functions of a data race, whichever was noticed first.
func (o *open) racing() []string {
	m := raceRE.FindStringSubmatch(o.first)
	if o.Kind != KCSAN || m == nil {
		return nil
	}
	both := []string{BaseName(m[1]), BaseName(m[2])}
	slices.Sort(both)
	return both
}

// function is the one that the report is about: the one that it names, the one of the instruction, or the first of
// the stack that is not there to notice and tell.
func (o *open) function() string {
	switch o.Kind {
	case KASAN, KCSAN, KFENCE, KMSAN:
		if f := o.said["func"]; f != "" && (inModuleRE.MatchString(o.first) || !Tells(f)) {
			return f
		}
	case StackProtector:
		if m := protectsRE.FindStringSubmatch(o.Panic); m != nil {
			return m[1]
		}
	case Lockdep:
		for i, text := range o.Text { // what is held is told of, too
			if releaseRE.MatchString(text) && i+1 < len(o.Text) {
				if m := frameRE.FindStringSubmatch(o.Text[i+1]); m != nil && !Tells(m[2]) {
					return m[2]
				}
			}
		}
		for _, text := range o.Text {
			if m := dependsRE.FindStringSubmatch(text); m != nil && !Tells(m[1]) {
				return m[1]
			}
		}
	case Atomic:
		for _, text := range o.Text {
			if m := workRE.FindStringSubmatch(text); m != nil {
				return m[1]
			}
		}
	case CFI:
		if f := o.said["func"]; f != "" {
			return f
		}
	case Kmemleak, WorkqueueLockup:
		return ""
	}
	if o.At != nil && !o.At.Tells() {
		return o.At.Function
	}
	for _, reliable := range []bool{true, false} {
		for _, t := range o.Traces {
			running := strings.HasPrefix(t.Name, "NMI backtrace") || strings.HasPrefix(t.Name, "rcu: Stack dump")
			if t.Name != "" && !running && o.Kind != KFENCE && o.Kind != KCSAN {
				continue
			}
			for _, f := range t.Frames {
				if f.Unreliable != reliable && !f.Tells() && !f.Ends() {
					return f.Function
				}
			}
		}
	}
	if o.At != nil {
		return o.At.Function
	}
	return ""
}

var offsetRE = regexp.MustCompile(`\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[[^\]]*\])?`)

// title is the kernel's words, in one line.
func (o *open) title() string {
	text := offsetRE.ReplaceAllString(o.first, "")
	in := ""
	if o.Function != "" {
		in = " in " + o.Function
	}
	switch o.Kind {
	case KASAN, KCSAN, KFENCE, KMSAN:
		text = strings.TrimPrefix(text, "BUG: ")
	case StackProtector, Panic:
		text = "Kernel panic: " + o.Panic
	case Refcount, List, ODEBUG, Fortify, Usercopy:
		for _, m := range o.message {
			if !strings.HasPrefix(m, "BUG: ") {
				text = m
				break
			}
		}
	case Warning:
		place := ""
		if m := placeRE.FindStringSubmatch(o.first); m != nil {
			place = " at " + m[1]
		} else if m := warnPlaceRE.FindStringSubmatch(o.first); m != nil {
			place = " at " + m[1]
		}
		if text = "WARNING" + in + place; len(o.message) > 0 {
			text += ": " + o.message[0]
		}
		return text
	}
	if in != "" && !strings.Contains(text, o.Function) {
		text += in
	}
	return text
}

var warnPlaceRE = regexp.MustCompile(`^WARNING: (\S+:\d+) at `)
