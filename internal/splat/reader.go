package splat

import (
	"bytes"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The bounds of what a log may make a Reader keep: a guest may say anything for hours.
const (
	maxReports = 100
	maxOfAKey  = 3    // of one fault: the others are counted
	maxText    = 1000 // lines of a report
	maxTraces  = 100
	maxFrames  = 2000 // of a report
	maxCallers = 64   // whose lines are told apart at a time
	maxOpen    = 4    // reports at a time, in a log that does not say whose a line is
	maxBefore  = 8    // lines before a report, for its cause
)

// maxGap is how much of the kernel's time may be between two lines of a report that has no mark at its end, in
// seconds. An RCU stall waits as long for a CPU's answer to its NMI.
const maxGap = 12

// Reader finds reports in a log, of which it gets any pieces. Its zero value is ready. It is not safe for use by
// several goroutines at a time.
type Reader struct {
	part    []byte // of a line
	n       int    // lines so far
	timed   bool   // the kernel's lines have times
	banner  string // Linux's own first line
	from    map[string]*source
	reports []*Report
	seen    map[string]bool // heads with their times: a program may print the log once more
	dropped int
	trace   int // the first line that tells of a stack, in any form of a log
}

// source is who prints: a task or a CPU where the log says so, else everybody.
type source struct {
	before []line // the last lines that were no report's
	cut    []line // since "cut here" or a bar: a report's first lines
	inCut  bool
	open   []*open
	last   *Report // that ended last
	stamp  string
}

// open is a report whose end has not come.
type open struct {
	*Report
	head    *head
	said    map[string]string
	message []string // what a WARN says
	first   string   // the line of the head
	past    stage
	inTrace bool
	traced  bool // there was a "Call Trace"
	leaves  bool // a task leaves the kernel with a lock
	name    string
	context string
	frames  int
	stamp   string
}

// Write reads a piece of the log. It never fails.
func (r *Reader) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		piece := p
		if end >= 0 {
			piece = p[:end]
		}
		// Of a longer line the end is kept: the kernel's may be behind what a program wrote.
		piece = piece[max(0, len(piece)-maxLine):]
		if len(r.part)+len(piece) > 2*maxLine {
			r.part = append(r.part[:0], r.part[max(0, len(r.part)+len(piece)-maxLine):]...)
		}
		r.part = append(r.part, piece...)
		if end < 0 {
			break
		}
		r.endLine()
		p = p[end+1:]
	}
	return n, nil
}

func (r *Reader) endLine() {
	r.n++
	if r.trace == 0 && tracesIn(r.part) {
		r.trace = r.n
	}
	if l, ok := r.split(r.part); ok {
		r.line(l)
	}
	r.part = r.part[:0]
}

// tracesIn says whether a line tells of a stack, or is about to.
func tracesIn(line []byte) bool {
	line = bytes.ToLower(line)
	return bytes.Contains(line, []byte("call trace:")) || bytes.Contains(line, []byte("[ cut here ]"))
}

// Close ends the log, and with it what is open. More may be written after it.
func (r *Reader) Close() error {
	if len(r.part) > 0 {
		r.endLine()
	}
	for _, s := range r.from {
		r.end(s, true)
	}
	slices.SortStableFunc(r.reports, func(a, b *Report) int { return a.Line - b.Line })
	return nil
}

// Reports are those that have ended, by their place in the log once it is closed.
func (r *Reader) Reports() []*Report { return r.reports }

// Trace is the number of the first line that tells of a stack, whether or not a report has it; 0: there is none.
func (r *Reader) Trace() int { return r.trace }

// Dropped is how many reports were too many to be kept.
func (r *Reader) Dropped() int { return r.dropped }

// Banner is the line in which the kernel says its version, when it boots; empty: it is not in the log.
func (r *Reader) Banner() string { return r.banner }

var (
	cutRE   = regexp.MustCompile(`^-{6,}\[ cut here \]-{6,}$`)
	barRE   = regexp.MustCompile(`^={20,}$`)
	endRE   = regexp.MustCompile(`^---\[ end (?:trace|Kernel panic)`)
	panicRE = regexp.MustCompile(`^Kernel panic - not syncing(?:: ?(.*))?$`)
)

func (r *Reader) line(l line) {
	if r.banner == "" && strings.HasPrefix(l.text, "Linux version ") {
		r.banner = l.text
	}
	s := r.source(l.caller)
	s.stamp = l.stamp
	switch {
	case cutRE.MatchString(l.text):
		r.endUnmarked(s, l)
		s.cut, s.inCut = append(s.cut[:0], l), true
		return
	case barRE.MatchString(l.text):
		if i := slices.IndexFunc(s.open, (*open).endsByBar); i >= 0 {
			s.open[i].add(l)
			r.finish(s, i, false)
			return
		}
		r.endUnmarked(s, l)
		s.cut, s.inCut = append(s.cut[:0], l), true
		return
	}
	if head, said := headOf(l.text); head != nil && r.begin(s, head, said, l) {
		return
	}
	if len(s.open) == 0 {
		s.keep(l)
		return
	}
	o := s.choose(l)
	if o == nil && s.inCut { // what a WARN says, before its head
		s.keep(l)
		return
	} else if o == nil {
		o = s.open[len(s.open)-1]
	}
	if o.over(l) {
		r.finish(s, slices.Index(s.open, o), false)
		s.keep(l)
		return
	}
	o.add(l)
	if endRE.MatchString(l.text) {
		r.finish(s, slices.Index(s.open, o), false)
	}
}

// source is whose line it is. One that has said nothing for longest makes room.
func (r *Reader) source(caller string) *source {
	if s := r.from[caller]; s != nil {
		return s
	}
	if r.from == nil {
		r.from = map[string]*source{}
	}
	if len(r.from) >= maxCallers {
		oldest := ""
		for name, s := range r.from {
			if o := r.from[oldest]; o == nil || seconds(s.stamp) < seconds(o.stamp) {
				oldest = name
			}
		}
		r.end(r.from[oldest], true)
		delete(r.from, oldest)
	}
	s := &source{}
	r.from[caller] = s
	return s
}

// keep remembers a line that is no report's yet.
func (s *source) keep(l line) {
	if s.inCut {
		if s.cut = append(s.cut, l); len(s.cut) <= maxBefore {
			return
		}
		s.inCut, s.cut = false, s.cut[:0] // what was cut off says nothing of itself
	}
	if s.before = append(s.before, l); len(s.before) > maxBefore {
		s.before = append(s.before[:0], s.before[1:]...)
	}
}

// begin begins a report, unless the head is one of a report that is open, or a consequence of one.
func (r *Reader) begin(s *source, h *head, said map[string]string, l line) bool {
	if m := panicRE.FindStringSubmatch(l.text); m != nil {
		of := s.last
		if n := len(s.open); n > 0 {
			of = s.open[n-1].Report
		}
		if of != nil && of.Panic == "" && consequenceRE.MatchString(m[1]) {
			of.Panic = m[1]
			r.end(s, false)
			return true
		}
	}
	if n := len(s.open); n > 0 {
		o := s.open[n-1]
		faults := o.Kind == Oops || o.Kind == Bug || o.Kind == CFI
		second := faults && o.past < pastRIP && faultRE.MatchString(l.text)
		if second || o.Kind == RCUStall && h.kind == RCUStall {
			o.add(l)
			return true
		}
	}
	again := l.stamp + " " + l.caller + " " + l.text
	if l.stamp != "" && r.seen[again] {
		s.inCut, s.cut = false, s.cut[:0]
		return true
	}
	r.endUnmarked(s, l)
	if len(s.open) >= maxOpen {
		r.finish(s, 0, true)
	}
	if r.seen == nil {
		r.seen = map[string]bool{}
	}
	if len(r.seen) < 10*maxReports {
		r.seen[again] = true
	}
	o := &open{Report: &Report{Kind: h.kind, Time: l.stamp, Line: l.n}, head: h, said: said, first: l.text}
	o.CPU = number(said["cpu"])
	if len(s.open) > 0 {
		o.Mixed = true
		for _, other := range s.open {
			other.Mixed = true
		}
	}
	for _, before := range s.before {
		if causeRE.MatchString(before.text) && seconds(l.stamp)-seconds(before.stamp) < maxGap {
			o.message = append(o.message, before.text)
			o.add(before)
		}
	}
	if s.inCut {
		o.Line = s.cut[0].n
		for _, before := range s.cut {
			if !cutRE.MatchString(before.text) && !barRE.MatchString(before.text) && before.text != "" {
				o.message = append(o.message, before.text)
			}
			o.add(before)
		}
	}
	s.inCut, s.cut, s.before = false, s.cut[:0], s.before[:0]
	o.add(l)
	if h.kind == UBSAN && barRE.MatchString(o.Text[0]) {
		bar := *h // before 6.1 a line of = ends it
		bar.ends = endsByBar
		o.head = &bar
	}
	s.open = append(s.open, o)
	if h.ends == endsAtOnce {
		r.finish(s, len(s.open)-1, false)
	}
	return true
}

func (o *open) endsByBar() bool { return o.head.ends == endsByBar }

// endUnmarked ends the reports that a next one's beginning ends. In a log that does not say whose a line is, one that
// has its end marked goes on: the next one may be another CPU's.
func (r *Reader) endUnmarked(s *source, l line) {
	for i := len(s.open) - 1; i >= 0; i-- {
		o := s.open[i]
		if l.caller == "" && o.head.ends == endsByMark && o.Kind != Panic && !o.late(l) {
			continue
		}
		r.finish(s, i, o.head.ends != endsByContent)
	}
}

// end ends all reports of a source.
func (r *Reader) end(s *source, atEnd bool) {
	for len(s.open) > 0 {
		o := s.open[0]
		untold := o.head.ends == endsByContent && (o.traced || o.Kind == WorkqueueLockup || o.Kind == Bug ||
			o.leaves) // it shows no stack
		r.finish(s, 0, atEnd && !untold)
	}
}

func (r *Reader) finish(s *source, i int, truncated bool) {
	o := s.open[i]
	s.open = slices.Delete(s.open, i, i+1)
	o.judge()
	o.Truncated = truncated && o.Panic == ""
	s.last = o.Report
	var first *Report
	same := 0
	for _, old := range r.reports {
		if old.Key == o.Key && old.Panic == "" && o.Panic == "" {
			if same++; first == nil {
				first = old
			}
		}
	}
	if same >= maxOfAKey {
		first.Again++
		return
	}
	if len(r.reports) >= maxReports {
		r.dropped++
		return
	}
	r.reports = append(r.reports, o.Report)
}

func seconds(stamp string) float64 {
	f, err := strconv.ParseFloat(stamp, 64)
	if err != nil {
		return 0
	}
	return f
}

// late says that a line comes long after the report's last one.
func (o *open) late(l line) bool { return seconds(l.stamp)-seconds(o.stamp) > maxGap }

// over says whether a line is none of the report's, which it ends.
func (o *open) over(l line) bool {
	switch {
	case o.late(l):
		return true
	case o.head.ends != endsByContent:
		return false
	case !o.traced:
		return len(o.Text) > maxText/2
	}
	return !contentRE.MatchString(l.text)
}

// contentRE matches what a report may have after its first stack.
var contentRE = regexp.MustCompile(`^(?:$|[ \t]|<|</|Call [Tt]race:|RIP: |R[A-Z0-9]{2}: |[CFD][SR]\d?: |[A-Z]S: ` +
	`|Code: |Modules linked in:|CPU: |Hardware name: |Workqueue: |Tainted: |task:|Stopper: |Last Breaking` +
	`|Showing (?:all locks|busy|backtraces)|\d+ locks? held by |no locks held by |INFO: lockdep is turned off` +
	`|irq event stamp|(?:hard|soft)irqs last |rcu: |NMI backtrace|Sending NMI|Preemption disabled at` +
	`|stack backtrace:|other info that|Chain exists|FIX |Disabling lock debugging|---\[ end|pc : |lr : |sp : ` +
	`|x\d+ *: |pstate: |epc ?: |Kernel Offset|page(?:_owner)?[: ]|raw: |flags: |workqueue |pool |PKRU: ` +
	`|\?\? |\[<|` + powerRE + `|\[[0-9a-f]{16}\]|--- interrupt: |Faulting instruction |LE PAGE_SIZE=)`)

// powerRE matches what powerpc says of its registers.
const powerRE = `(?:NIP|LR|REGS|MSR|CFAR|IRQMASK|DAR|GPR\d\d): |(?:NIP|LR) \[`

// stage is how far a report has come: its lines have an order.
type stage int

const (
	pastHead stage = iota
	pastModules
	pastCPU
	pastHardware
	pastRIP
	pastRegisters
	pastTrace
	pastFrame
	pastEnd
)

var registerRE = regexp.MustCompile(`^(?:R[A-Z0-9]{2}: [0-9a-f:]|[CFD][SR]\d?: |RIP: |Code: |PKRU: |pc : |` +
	`lr : |sp : |x\d+ *: |pstate: |epc ?: | (?:ra|gp|[ast]\d+) ?: |status: [0-9a-f]|` + powerRE + `)`)

func (o *open) stageOf(text string) (stage, bool) {
	switch {
	case strings.HasPrefix(text, "Modules linked in:"):
		if o.Kind == Oops || o.Kind == Bug {
			return pastFrame, true
		}
		return pastModules, true
	case strings.HasPrefix(text, "CPU: "):
		return pastCPU, true
	case strings.HasPrefix(text, "Hardware name: "):
		return pastHardware, true
	case strings.HasPrefix(text, "RIP: "):
		return pastRIP, true
	case registerRE.MatchString(text):
		return pastRegisters, true
	case strings.HasPrefix(text, "Call Trace:"), strings.HasPrefix(text, "Call trace:"):
		return pastTrace, true
	case frameRE.MatchString(text), bareRE.MatchString(text), contextRE.MatchString(text):
		return pastFrame, true
	case endRE.MatchString(text):
		return pastEnd, true
	}
	return 0, false
}

// choose finds the open report that a line is probably of: the one whose CPU it names, or which has come just so far.
func (s *source) choose(l line) *open {
	if len(s.open) == 1 && !s.inCut {
		return s.open[0]
	}
	if m := cpuRE.FindStringSubmatch(l.text); m != nil {
		for _, o := range s.open {
			if o.CPU != nil && strconv.Itoa(*o.CPU) == m[1] {
				return o
			}
		}
	}
	var best *open
	for _, o := range s.open {
		at, known := o.stageOf(l.text)
		switch {
		case !known:
			continue
		case at < o.past, at == o.past && at < pastRegisters:
			continue
		case best == nil || o.past > best.past:
			best = o
		}
	}
	return best
}
