package splat

// stops are functions that the kernel is in while it tells of a report of a kind. Which of them there are depends on
// its version and configuration.
var stops = map[Kind][]string{
	Warning:        {"__warn"},
	Bug:            {"oops_begin", "die"},
	Oops:           {"oops_begin", "die"},
	KASAN:          {"kasan_report", "__kasan_report", "kasan_report_invalid_free", "kasan_report_double_free"},
	KCSAN:          {"kcsan_report_known_origin", "kcsan_report_unknown_origin", "kcsan_report"},
	KFENCE:         {"kfence_report_error"},
	KMSAN:          {"kmsan_report"},
	UBSAN:          {"ubsan_prologue"},
	Lockdep:        {"debug_locks_off"},
	RCUUsage:       {"lockdep_rcu_suspicious"},
	Refcount:       {"__warn"},
	List:           {"__warn", "oops_begin", "die"},
	Slab:           {"slab_bug", "slab_err", "object_err", "slab_fix"},
	BadPage:        {"bad_page", "print_bad_pte"},
	Atomic:         {"__schedule_bug"},
	Preemptible:    {"check_preemption_disabled"},
	Spinlock:       {"spin_bug", "spin_dump", "rwlock_bug"},
	Usercopy:       {"usercopy_abort", "__warn", "oops_begin", "die"},
	Fortify:        {"__fortify_panic", "fortify_panic", "__warn"},
	ODEBUG:         {"__warn"},
	CFI:            {"__warn", "oops_begin", "die"},
	StackProtector: {"__stack_chk_fail"},
	Panic:          {"vpanic", "panic"},
}

// anyStop are where every report shows a stack.
var anyStop = []string{"dump_stack_lvl", "dump_stack"}

// Stops are functions that the kernel was in when it told of the report, of those that have says there are: for who
// goes backwards from its end, the first that is met. Where it panicked over the report, it is the panic.
func (r *Report) Stops(have func(function string) bool) []string {
	kind := r.Kind
	if r.Panic != "" && kind != StackProtector {
		kind = Panic
	}
	for _, list := range [][]string{stops[kind], anyStop} {
		var found []string
		for _, f := range list {
			if have(f) {
				found = append(found, f)
			}
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

// Last is the report that a log's end is about: the one that the kernel panicked over, else the last one; nil: there
// is none.
func Last(reports []*Report) *Report {
	var last *Report
	for _, r := range reports {
		if last == nil || last.Panic == "" || r.Panic != "" {
			last = r
		}
	}
	return last
}
