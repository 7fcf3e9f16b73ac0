package splat

import (
	"regexp"
	"slices"
	"strings"
)

// Tells says whether a function is there to notice and to tell, to wait, to lock, to copy or to free, or is how one
// gets to it: a report is about the one that called it.
func Tells(function string) bool {
	name := strings.TrimLeft(BaseName(function), "_")
	if faultyRE.MatchString(name) {
		return false
	}
	return slices.Contains(tellers, name) ||
		slices.ContainsFunc(tellerPrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// Tells is that of a frame. What a module has that is called so is its own, but for what headers give it.
func (f Frame) Tells() bool {
	name := strings.TrimLeft(BaseName(f.Function), "_")
	return Tells(f.Function) && (f.Module == "" || inlineRE.MatchString(name))
}

// Ends says that a frame is where a function returns to that never does: the call is the last instruction of the
// function before this one, which has no name in a log where the kernel names the address itself, as on arm64, riscv
// and powerpc. What is there to be returned to in another's place is none.
func (f Frame) Ends() bool {
	return f.Return && f.Offset == 0 && !f.Unreliable && !trampolineRE.MatchString(f.Function)
}

var trampolineRE = regexp.MustCompile(`trampoline|^return_to_handler$`)

// inlineRE matches functions of the kernel's headers that a compiler may not inline: a module has them then, too.
var inlineRE = regexp.MustCompile(`^(?:refcount_|list_add|list_del|(?:raw_)?spin_(?:un)?lock|rcu_read_|might_|` +
	`copy_to_user|copy_from_user)|^(?:mem(?:cpy|set|move|cmp)|str(?:len|cpy|ncpy|lcpy|scpy|cat)|` +
	`kv?[mz]alloc(?:_node|_array)?(?:_noprof)?)$`)

// faultyRE matches functions that are called by what is wrong with them, as KASAN's own tests are:
// kmalloc_oob_right.
var faultyRE = regexp.MustCompile(`_(?:oob|uaf)(?:_|\d|$)|^kfree_via_|` +
	`^(?:kmalloc|kmem_cache)[a-z_]*_(?:double|invalid|negative)_|^kasan_(?:strings|mem|bitops|atomics)`)

// tellers are such functions, without underscores before their names.
var tellers = strings.Fields(`
	warn die report_bug handle_bug panic nmi_panic vpanic do_error_trap do_trap no_context do_user_addr_fault
	do_kern_addr_fault error_entry fortify_panic validate_chain register_lock_class assign_lock_key
	lock_acquire lock_release down up schedule io_schedule usercopy_abort object_err
	bad_page free_page_is_bad free_pages_prepare free_one_page free_pages
	free_large_kmalloc check_page_allocation strncpy_from_user strnlen_user
	poison_slab_object unpoison_slab_object poison_kmalloc_redzone poison_kmalloc_large_redzone
	timer_interrupt handle_irq handle_level_irq handle_edge_irq handle_fasteoi_irq
	memcpy_erms memcpy_orig memset_erms memset_orig memmove_erms rep_movs_alternative rep_stos_alternative
	clear_page_erms clear_page_orig clear_page_rep copy_page clear_user_erms clear_user_original
	memcpy memset memmove memcmp memchr strlen strnlen strcpy strncpy strlcpy strscpy strcat strncat strlcat
	strchr strrchr strcmp strncmp strstr ksize sched_show_task delay_tsc delay const_udelay udelay
	msleep ssleep preempt_count_sub preempt_count_add
	on_freelist get_partial_node get_partial get_any_partial new_slab alloc_single_from_partial
	default_do_nmi end_repeat_nmi update_process_times do_syscall_64 x64_sys_call kthread kvfree do_slab_free printk
	handle_overflow check_memory_region
	switch_to dump_cpu_task walk_stackframe do_page_fault
	do_mem_abort do_translation_fault do_kernel_fault do_bad_area do_debug_exception call_break_hook brk_handler
	bug_handler bug_brk_handler invoke_syscall call_on_irq_stack do_interrupt_handler
	handle_exception do_irq handle_riscv_irq`)

// tellerPrefixes are what the names of such functions begin with.
var tellerPrefixes = strings.Fields(`
	dump_stack dump_backtrace show_stack show_regs show_trace warn_ die_ oops_ exc_ asm_exc_ asm_sysvec_ sysvec_
	asm_common_ asm_call_ do_int3 page_fault
	bad_area ret_from_ fixup_exception fixup_bug
	kasan_ asan_ hwasan_ end_report start_report check_memory_region kcsan_ tsan_ kmsan_ msan_ kfence_ ubsan_
	handle_object_size print_report print_address print_circular print_deadlock print_usage print_irq print_lock
	print_unlock print_kasan print_trailer print_section print_page
	lockdep_ check_noncircular check_prev check_irq_usage check_flush check_bytes check_slab check_object
	check_preemption check_heap_object check_usage check_wait_context check_deadlock mark_lock mark_usage mark_held
	debug_smp debug_check debug_object debug_print_object debug_mutex debug_locks debug_spin debug_rt
	do_raw_ raw_spin_ raw_read_ raw_write_ spin_ rwlock_ queued_ native_ pv_ mutex_ rt_mutex rwsem_ rt_spin_
	down_read down_write down_interruptible down_killable down_trylock down_timeout up_read up_write
	bit_wait wait_for_ wait_on_ wait_woken out_of_line_wait do_wait_for_ io_schedule_ schedule_ preempt_schedule
	handle_irq_event copy_user_ pi_mem pi_str
	might_ cant_sleep cant_migrate refcount_ list_add list_del copy_to_user copy_from_user
	copy_overflow arch_copy_ fortify_ stack_chk_ free_unref_ free_pcp free_pages_ slab_ free_debug_ alloc_debug_
	free_to_partial free_consistency_ alloc_consistency_ kfree kmem_cache_ kmalloc kmem_
	rcu_ lockup_ watchdog_ nmi_ tick_ hrtimer_ usleep_ trigger_all trigger_single trigger_cpumask smp_call_ on_each_cpu
	apic_ irq_exit irqentry_ irq_work common_interrupt entry_ secondary_startup cpu_idle cpu_startup
	set_track stack_trace_ vprintk console_
	el0_ el0t_ el1_ el1h_ el1t_ do_el0_ gic_ arch_timer_ handle_percpu_ generic_handle_
	do_trap_ riscv_intc_ riscv_timer_`)
