package splat

import (
	"regexp"
	"strings"
)

// How a report ends, besides by the next one's beginning.
type ending int

const (
	endsByContent ending = iota // with the last line that can be a report's, after a stack
	endsByMark                  // with "---[ end trace"
	endsByBar                   // with a line of =
	endsAtOnce                  // it is one line
)

// head is the first line of a report that says what it is.
type head struct {
	prefix string // a literal one: most lines of a log begin no report
	re     *regexp.Regexp
	kind   Kind
	detail string // empty: the group "detail", if there is one
	ends   ending
	// The groups: detail, func, task, pid, cpu.
}

func h(prefix, rest string, kind Kind, detail string, ends ending) head {
	return head{prefix, regexp.MustCompile("^" + regexp.QuoteMeta(prefix) + rest), kind, detail, ends}
}

const (
	funcGroup = `(?P<func>[A-Za-z_][\w.$]*)`
	taskGroup = `(?P<task>.{1,64}?)/(?P<pid>\d+)`
)

// heads are tried from the top.
var heads = []head{
	h("BUG: KASAN: ", `(?P<detail>[\w-]+(?: or [\w-]+)?)(?: in `+funcGroup+`)?`, KASAN, "", endsByBar),
	h("BUG: KCSAN: ", `(?P<detail>[\w-]+(?:: race)?)(?: in `+funcGroup+`)?`, KCSAN, "", endsByBar),
	h("BUG: KFENCE: ", `(?P<detail>[\w -]+?)(?: in `+funcGroup+`|$)`, KFENCE, "", endsByBar),
	h("BUG: KMSAN: ", `(?P<detail>[\w-]+)(?: in `+funcGroup+`)?`, KMSAN, "", endsByBar),
	h("UBSAN: ", `(?i)(?P<detail>[\w -]+?) in `, UBSAN, "", endsByMark),

	h("BUG: kernel NULL pointer dereference", ``, Oops, "null-ptr-deref", endsByMark),
	h("BUG: unable to handle kernel NULL pointer dereference", ``, Oops, "null-ptr-deref", endsByMark),
	h("BUG: unable to handle ", ``, Oops, "page-fault", endsByMark),
	h("BUG: Kernel NULL pointer dereference", ``, Oops, "null-ptr-deref", endsByMark), // powerpc
	h("BUG: Unable to handle kernel ", ``, Oops, "page-fault", endsByMark),
	h("Unable to handle kernel NULL pointer dereference", ``, Oops, "null-ptr-deref", endsByMark), // arm64, riscv
	h("Unable to handle kernel ", ``, Oops, "page-fault", endsByMark),
	h("BUG: ", `(?:\S+ )?stack guard page was hit at`, Oops, "stack-overflow", endsByMark),
	h("kernel stack overflow ", ``, Oops, "stack-overflow", endsByMark),
	h("Insufficient stack space to handle exception!", ``, Oops, "stack-overflow", endsByContent), // arm64
	h("kernel BUG at ", ``, Bug, "", endsByMark),
	h("CFI failure at ", funcGroup+`\+`, CFI, "", endsByMark),
	h("Missing ENDBR: ", funcGroup+`\+`, CFI, "", endsByMark),
	h("traps: PANIC: double fault", ``, Oops, "double-fault", endsByMark),
	h("PANIC: double fault", ``, Oops, "double-fault", endsByMark),
	h("general protection fault", `[:,]`, Oops, "general-protection-fault", endsByMark),
	h("invalid opcode: ", `[0-9a-f]{4} `, Oops, "invalid-opcode", endsByMark),
	h("divide error: ", `[0-9a-f]{4} `, Oops, "divide-error", endsByMark),
	h("stack segment: ", `[0-9a-f]{4} `, Oops, "stack-segment", endsByMark),
	h("int3: ", `[0-9a-f]{4} `, Oops, "int3", endsByMark),
	h("alignment check: ", `[0-9a-f]{4} `, Oops, "alignment-check", endsByMark),
	h("invalid TSS: ", `[0-9a-f]{4} `, Oops, "invalid-tss", endsByMark),
	h("segment not present: ", `[0-9a-f]{4} `, Oops, "segment-not-present", endsByMark),
	h("control protection fault: ", `[0-9a-f]{4} `, Oops, "control-protection", endsByMark),
	h("double fault: ", `[0-9a-f]{4} `, Oops, "double-fault", endsByMark),
	h("Oops: general protection fault", ``, Oops, "general-protection-fault", endsByMark), // from 6.10 on
	h("Oops: invalid opcode", ``, Oops, "invalid-opcode", endsByMark),
	h("Oops: divide error", ``, Oops, "divide-error", endsByMark),
	h("Oops: stack segment", ``, Oops, "stack-segment", endsByMark),
	h("Oops: double fault", ``, Oops, "double-fault", endsByMark),
	h("Oops: ", ``, Oops, "", endsByMark),
	h("Oops", ` (?:\[#|- )`, Oops, "", endsByMark), // riscv
	h("Internal error: ", ``, Oops, "", endsByMark),

	// Since 6.18 the file comes before the CPU.
	h("WARNING: CPU: ", `(?P<cpu>\d+) PID: (?P<pid>\d+) at `, Warning, "", endsByMark),
	h("WARNING: ", `\S+:\d+ at \S+, CPU#(?P<cpu>\d+): `+taskGroup+`$`, Warning, "", endsByMark),

	h("WARNING: suspicious RCU usage", ``, RCUUsage, "", endsByContent),
	h("[ INFO: suspicious RCU usage", ``, RCUUsage, "", endsByContent),
	h("WARNING: possible circular locking dependency detected", ``, Lockdep, "circular", endsByContent),
	h("WARNING: possible recursive locking detected", ``, Lockdep, "recursive", endsByContent),
	h("WARNING: inconsistent lock state", ``, Lockdep, "inconsistent", endsByContent),
	h("WARNING: possible irq lock inversion dependency detected", ``, Lockdep, "inversion", endsByContent),
	h("WARNING: ", `(?:HARDIRQ|SOFTIRQ|RECLAIM_FS|FS_RECLAIM)-\w+ -> .* lock order detected`, Lockdep, "irq-order",
		endsByContent),
	h("WARNING: bad unlock balance detected!", ``, Lockdep, "unbalanced", endsByContent),
	h("[ BUG: bad unlock balance detected!", ``, Lockdep, "unbalanced", endsByContent),
	h("WARNING: bad contention detected!", ``, Lockdep, "contention", endsByContent),
	h("WARNING: held lock freed!", ``, Lockdep, "freed", endsByContent),
	h("[ BUG: held lock freed!", ``, Lockdep, "freed", endsByContent),
	h("WARNING: lock held when returning to user space!", ``, Lockdep, "held-in-user", endsByContent),
	h("[ BUG: lock held when returning to user space!", ``, Lockdep, "held-in-user", endsByContent),
	h("WARNING: Nested lock was not taken", ``, Lockdep, "nested", endsByContent),
	h("WARNING: ", taskGroup+` still has locks held!`, Lockdep, "held", endsByContent),
	h("[ BUG: Invalid wait context ]", ``, Lockdep, "wait-context", endsByContent),
	h("WARNING: chain_key collision", ``, Lockdep, "chain-key", endsByContent),
	h("BUG: looking up invalid subclass: ", ``, Lockdep, "subclass", endsByContent),
	h("INFO: trying to register non-static key.", ``, Lockdep, "non-static-key", endsByContent),
	h("BUG: MAX_", `(?:LOCK|STACK)\S* too low`, Lockdep, "too-low", endsByContent),
	h("BUG: key ", `\S+ (?:not in \.data|has not been registered)!`, Lockdep, "key", endsByContent),

	h("rcu: INFO: ", `\S+ .*stalls? on `, RCUStall, "", endsByContent),
	h("INFO: ", `rcu\S* .*stalls? on `, RCUStall, "", endsByContent),
	h("rcu: INFO: ", `\S+ .*stalls?, but suppressed full report`, RCUStall, "", endsAtOnce),
	h("INFO: task ", `(?P<task>.{1,64}?):(?P<pid>\d+) blocked (?:in I/O wait )?(?:on .* )?for more than`,
		HungTask, "", endsByContent),
	h("watchdog: BUG: soft lockup - CPU#", `(?P<cpu>\d+) stuck for \S+ \[(?P<task>.{1,64}?):(?P<pid>\d+)\]`,
		SoftLockup, "", endsByContent),
	h("NMI watchdog: BUG: soft lockup - CPU#", `(?P<cpu>\d+) stuck for \S+ \[(?P<task>.{1,64}?):(?P<pid>\d+)\]`,
		SoftLockup, "", endsByContent),
	h("watchdog: Watchdog detected hard LOCKUP on cpu ", `(?P<cpu>\d+)`, HardLockup, "", endsByContent),
	h("watchdog: CPU", `(?P<cpu>\d+): Watchdog detected hard LOCKUP on cpu`, HardLockup, "", endsByContent),
	h("NMI watchdog: Watchdog detected hard LOCKUP on cpu ", `(?P<cpu>\d+)`, HardLockup, "", endsByContent),
	h("BUG: workqueue lockup", ``, WorkqueueLockup, "", endsByContent),
	h("kmemleak: ", `\d+ new suspected memory leaks`, Kmemleak, "", endsAtOnce),

	h("BUG: Bad page state in process ", `(?P<task>.{1,64}?)  pfn:`, BadPage, "state", endsByContent),
	h("BUG: Bad page map in process ", `(?P<task>.{1,64}?)  (?:pte|pmd|pud|p4d|pgd):`, BadPage, "map", endsByContent),
	h("BUG: Bad page cache in process ", `(?P<task>.{1,64}?)  pfn:`, BadPage, "cache", endsByContent),
	h("BUG: Bad page ", `(?:state|map): \d+ messages suppressed`, BadPage, "suppressed", endsAtOnce),
	h("pagealloc: ", `(?P<detail>memory corruption|single bit error)$`, BadPage, "", endsByContent),
	h("BUG: Bad rss-counter state", ``, BadPage, "rss-counter", endsAtOnce),
	h("BUG: non-zero pgtables_bytes", ``, BadPage, "pgtables-bytes", endsAtOnce),
	h("BUG: scheduling while atomic: ", taskGroup+`/0x`, Atomic, "", endsByContent),
	h("BUG: scheduling in a non-blocking section: ", taskGroup+`/`, Atomic, "non-blocking", endsByContent),
	h("BUG: workqueue leaked ", ``, Atomic, "workqueue", endsByContent),
	h("BUG: sleeping function called from ", ``, Sleep, "", endsByContent),
	h("BUG: using ", `(?P<detail>\w+)\(\) in preemptible \[\d+\] code: `+taskGroup, Preemptible, "", endsByContent),
	h("BUG: using ", `(?P<detail>\w+)\(\) in preemptible`, Preemptible, "", endsByContent),
	h("BUG: spinlock ", `(?P<detail>[a-z ]+?) on CPU#(?P<cpu>\d+), `+taskGroup, Spinlock, "", endsByContent),
	h("BUG: rwlock ", `(?P<detail>[\w -]+?) on CPU#(?P<cpu>\d+), `+taskGroup, Spinlock, "", endsByContent),
	h("BUG: rwlock-", `(?P<detail>[\w -]+?) on CPU#(?P<cpu>\d+), `+taskGroup, Spinlock, "", endsByContent),
	h("BUG ", `(?P<detail>\S+) \((?:Not tainted|Tainted: .*?)\): `, Slab, "", endsByContent),
	h("BUG: ", ``, Bug, "", endsByContent),
	h("Kernel panic - not syncing: ", `(?P<detail>.*)`, Panic, "", endsByMark),
	h("Kernel panic - not syncing", ``, Panic, "", endsByMark),
}

// headOf finds what a line begins, and what it says of it by the names of the groups.
func headOf(text string) (*head, map[string]string) {
	if len(text) < 6 || !strings.ContainsRune("BUOKIWMPCTrwNkgdisactp[", rune(text[0])) {
		return nil, nil
	}
	for i := range heads {
		h := &heads[i]
		if !strings.HasPrefix(text, h.prefix) {
			continue
		}
		m := h.re.FindStringSubmatch(text)
		if m == nil {
			continue
		}
		said := map[string]string{}
		for j, name := range h.re.SubexpNames() {
			if name != "" && m[j] != "" {
				said[name] = m[j]
			}
		}
		return h, said
	}
	return nil, nil
}

// faults are heads that a report has after its first one: what a BUG or a fault of memory leads to.
var faultRE = regexp.MustCompile(`^(?:Oops|Internal error: |invalid opcode: |general protection fault|` +
	`divide error: |stack segment: |double fault: |int3: |traps: PANIC: double fault|PANIC: double fault|` +
	`stack guard page: |kernel stack overflow )`)

// consequenceRE matches panics over what was reported before.
var consequenceRE = regexp.MustCompile(`^(?:Fatal exception|.*: Fatal exception|Fatal machine check|` +
	`[Kk]ernel: panic_on_warn|` +
	`.*panic_on_warn|kasan\.fault=|hung_task: |softlockup: |Hard LOCKUP|RCU Stall|panic_on_taint|` +
	`oops_limit|.*limit: |Oops|.*exceeded|BUG!|UBSAN|KFENCE|scheduling while atomic|Aiee, killing interrupt handler|` +
	`Attempted to kill (?:init|the idle task)|.*panic_on_)`)

// causeRE matches what is printed before a BUG, outside of it, and says why.
var causeRE = regexp.MustCompile(`^(?:usercopy: |list_(?:add|del) corruption|detected buffer overflow in |` +
	`kernel tried to execute |stack-protector: |\S+: detected buffer overflow|BUG: |refcount_t: |` +
	`page dumped because: |page:|Thread overran stack)`)
