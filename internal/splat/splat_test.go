package splat

import (
	"slices"
	"strings"
	"testing"
)

// read gives a Reader the log in pieces of n bytes; 0: whole.
func read(log string, n int) *Reader {
	r := &Reader{}
	for b := []byte(log); len(b) > 0; {
		piece := b
		if n > 0 {
			piece = b[:min(n, len(b))]
		}
		r.Write(piece)
		b = b[len(piece):]
	}
	r.Close()
	return r
}

// stamped puts times before the lines.
func stamped(log string) string {
	var b strings.Builder
	for line := range strings.Lines(log) {
		b.WriteString("[    1.234567] " + line)
	}
	return b.String()
}

const trace = `Call Trace:
 <TASK>
 dump_stack_lvl+0x34/0x48
 outer_step+0x1f/0x40
 ? maybe_step+0x1f/0x40
 do_syscall_64+0x5c/0x90
 entry_SYSCALL_64_after_hwframe+0x6e/0xd8
RIP: 0033:0x7fb2a2cb7300
 </TASK>
`

const cpu = `CPU: 0 UID: 0 PID: 73 Comm: my prog Tainted: G        W          6.12.117 #1
Hardware name: QEMU Standard PC (i440FX + PIIX, 1996), BIOS 1.16.2 04/01/2014
`

const regs = `Modules linked in:
` + cpu + `RIP: 0010:inner_step+0x12/0x34
Code: 0f 0b
RSP: 0018:ffffc900001b7e30 EFLAGS: 00010202
RAX: 0000000000000000 RBX: ffff888003abcd00 RCX: 0000000000000000
CR2: 0000000000000000 CR3: 0000000003a1c000 CR4: 00000000000006f0
` + trace

// reports have one report each; the kernel's texts of 5.10, 6.1, 6.12 and 6.18 differ.
var reports = []struct {
	name, log, key, title string
}{
	{"warn 6.12", "------------[ cut here ]------------\n" +
		"WARNING: CPU: 0 PID: 73 at kernel/step.c:12 inner_step+0x12/0x34\n" +
		regs + "---[ end trace 0000000000000000 ]---\n",
		"warning in inner_step", "WARNING in inner_step at kernel/step.c:12"},
	{"warn with a message", "------------[ cut here ]------------\nstep 3 is odd\n" +
		"WARNING: CPU: 0 PID: 73 at kernel/step.c:12 inner_step+0x12/0x34 [mod]\n" + regs + "---[ " +
		"end trace 12ab ]---\n",
		"warning in inner_step", "WARNING in inner_step at kernel/step.c:12: step 3 is odd"},
	{"warn 6.18", "------------[ cut here ]------------\n" +
		"WARNING: kernel/step.c:12 at inner_step+0x12/0x34, CPU#0: sh/73\n" +
		regs + "---[ end trace 0000000000000000 ]---\n",
		"warning in inner_step", "WARNING in inner_step at kernel/step.c:12"},
	{"bug 5.10", "------------[ cut here ]------------\nkernel BUG at kernel/step.c:12!\n" +
		"invalid opcode: 0000 [#1] SMP\n" + regs +
		"---[ end trace 0011223344556677 ]---\n", "bug in inner_step", "kernel BUG " +
		"at kernel/step.c:12! in inner_step"},
	{"bug 6.12", "------------[ cut here ]------------\nkernel BUG at kernel/step.c:12!\n" +
		"Oops: invalid opcode: 0000 [#1] PREEMPT SMP\n" + regs + "---[ end trace 0000000000000000 ]---\n",
		"bug in inner_step", "kernel BUG at kernel/step.c:12! in inner_step"},
	{"null 6.12", "BUG: kernel NULL pointer dereference, address: 0000000000000000\n" +
		"#PF: supervisor write access in kernel mode\n#PF: error_code(0x0002) - not-present page\nPGD 0 P4D 0\n" +
		"Oops: Oops: 0002 [#1] PREEMPT SMP\n" + regs + "Modules linked in:\nCR2: 0000000000000000\n" +
		"---[ end trace 0000000000000000 ]---\nRIP: 0010:inner_step+0x12/0x34\n" +
		"Kernel panic - not syncing: Fatal exception\n",
		"oops null-ptr-deref in inner_step", "BUG: kernel NULL pointer dereference, " +
			"address: 0000000000000000 in inner_step"},
	{"null 4.19", "BUG: unable to handle kernel NULL pointer dereference at 0000000000000000\nPGD 0 P4D 0\n" +
		"Oops: 0002 [#1] SMP\n" + regs + "---[ end trace 0011223344556677 ]---\n", "oops " +
		"null-ptr-deref in inner_step", ""},
	{"page fault", "BUG: unable to handle page fault for address: ffffc90000321000\n#PF: supervisor read access\n" +
		"Oops: 0000 [#1] PREEMPT SMP\n" + regs + "---[ end trace 0 ]---\n", "oops page-fault in inner_step", ""},
	{"gpf 5.10", "general protection fault, probably for non-canonical address 0xdead000000000100: " +
		"0000 [#1] SMP\n" + regs +
		"---[ end trace 0 ]---\n", "oops general-protection-fault in inner_step", ""},
	{"gpf 6.12", "Oops: general protection fault, probably for non-canonical address " +
		"0xdead000000000100: 0000 [#1] SMP\n" +
		regs + "---[ end trace 0 ]---\n", "oops general-protection-fault in inner_step", ""},
	{"gpf kasan", "Oops: general protection fault, probably for non-canonical address " +
		"0xdffffc0000000000: 0000 [#1] SMP KASAN\n" +
		"KASAN: null-ptr-deref in range [0x0000000000000000-0x0000000000000007]\n" + regs + "---[ end trace 0 ]---\n",
		"oops null-ptr-deref in inner_step", ""},
	{"a copy", "BUG: unable to handle page fault for address: ffffffffa0001da0\nOops: 0003 [#1] PREEMPT SMP\n" + cpu +
		"RIP: 0010:memcpy_erms+0x6/0x10\n" + trace + "---[ end trace 0 ]---\n", "oops page-fault in outer_step", ""},
	{"gpf kasan, an address of a program", "Oops: general protection fault, probably for non-canonical address " +
		"0xe0000bdfcaf39e00: 0000 [#1] SMP KASAN\n" +
		"KASAN: probably user-memory-access in range [0x00007efe579cf000-0x00007efe579cf007]\n" + regs +
		"---[ end trace 0 ]---\n", "oops user-memory-access in inner_step", ""},
	{"gpf kasan, any address", "Oops: general protection fault, probably for non-canonical address " +
		"0xfbd59c0000000020: 0000 [#1] SMP KASAN\n" +
		"KASAN: maybe wild-memory-access in range [0xdead000000000100-0xdead000000000107]\n" + regs +
		"---[ end trace 0 ]---\n", "oops wild-memory-access in inner_step", ""},
	{"divide", "divide error: 0000 [#1] SMP\n" + regs + "---[ end trace 0 ]---\n", "oops " +
		"divide-error in inner_step", ""},
	{"opcode", "Oops: invalid opcode: 0000 [#1] SMP\n" + regs + "---[ end trace 0 ]---\n",
		"oops invalid-opcode in inner_step", ""},
	{"guard 6.12", "BUG: TASK stack guard page was hit at 00000000abcdef00 (stack is 0000..00)\n" +
		"Oops: stack guard page: 0000 [#1] SMP\n" + regs + "---[ end trace 0 ]---\n", "oops " +
		"stack-overflow in inner_step", ""},
	{"double fault 5.10", "traps: PANIC: double fault, error_code: 0x0\ndouble fault: 0000 [#1] SMP\n" + regs +
		"---[ end trace 0 ]---\nKernel panic - not syncing: Fatal exception in interrupt\n",
		"oops double-fault in inner_step", ""},
	{"arm64", "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000000\n" +
		"Mem abort info:\n" +
		"  ESR = 0x96000044\nInternal error: Oops: 96000044 [#1] SMP\nModules linked in:\n" + cpu +
		"pstate: 60000005 (nZCv daif -PAN -UAO)\npc : inner_step+0x12/0x34\nlr : outer_step+0x40/0x80\n" +
		"sp : ffff80001000be00\n" +
		"x29: ffff80001000be00 x28: ffff000002f20000\nCall trace:\n inner_step+0x12/0x34\n outer_step+0x1f/0x40\n" +
		" el0_svc+0x10/0x20\nCode: d503233f\n---[ end trace 0 ]---\n", "oops null-ptr-deref in inner_step", ""},
	{"arm64 panic 6.12", "Kernel panic - not syncing: sysrq triggered crash\n" + cpu + "Call trace:\n" +
		" dump_backtrace.part.0+0x94/0xbc\n show_stack+0x14/0x1c\n dump_stack_lvl+0x58/0x74\n dump_stack+0x14/0x1c\n" +
		" panic+0x124/0x304\n after_step+0x0/0x5c\n outer_step+0xb0/0x150\nKernel Offset: disabled\n",
		"panic in outer_step", "Kernel panic: sysrq triggered crash in outer_step"},
	{"arm64 panic 6.13", "Kernel panic - not syncing: odd\n" + cpu + "Call trace:\n show_stack+0x20/0x38 (C)\n" +
		" dump_stack_lvl+0x58/0x74\n panic+0x124/0x304\n inner_step+0x5c/0x5c\n outer_step+0xb0/0x150\n",
		"panic in inner_step", ""},
	{"arm64, a task that hangs", "INFO: task my prog:73 blocked for more than 122 seconds.\n" +
		"      Not tainted 6.12.117 #1\ntask:my prog  state:D stack:0 pid:73 tgid:73 ppid:1 flags:0x00000000\n" +
		"Call trace:\n __switch_to+0xec/0x140 (T)\n __schedule+0x2f4/0x9a0\n schedule+0x34/0x104\n" +
		" inner_step+0x12/0x34\n el0_svc+0x18/0x44\n", "hung-task in inner_step", ""},
	{"riscv panic", "Kernel panic - not syncing: odd\n" + cpu + "Call Trace:\n" +
		"[<ffffffff80003b1e>] dump_backtrace+0x1c/0x24\n[<ffffffff80003b1e>] show_stack+0x2c/0x38\n" +
		"[<ffffffff80003b1e>] dump_stack_lvl+0x3c/0x54\n[<ffffffff80003b1e>] panic+0x108/0x2ee\n" +
		"[<ffffffff80003b1e>] inner_step+0x12/0x34\n", "panic in inner_step", ""},
	{"arm64, within an interrupt", "BUG: sleeping function called from invalid context at a.c:1\n" + cpu +
		"Call trace:\n dump_backtrace+0x94/0xbc\n show_stack+0x18/0x24\n dump_stack_lvl+0x58/0x74\n" +
		" dump_stack+0x18/0x24\n __might_resched+0x10/0x20\n generic_handle_domain_irq+0x10/0x20\n" +
		" gic_handle_irq+0x4c/0xf0\n call_on_irq_stack+0x24/0x4c\n do_interrupt_handler+0x80/0x84\n" +
		" el1_interrupt+0x34/0x64\n el1h_64_irq_handler+0x18/0x24\n el1h_64_irq+0x64/0x68\n inner_step+0x12/0x34\n",
		"sleep in inner_step", ""},
	{"powerpc panic 6.12", "Kernel panic - not syncing: odd\n" + cpu +
		"Hardware name: IBM pSeries (emulated by qemu) POWER9 (architected) 0x4e1202 0xf000005 of:SLOF,HEAD pSeries\n" +
		"Call Trace:\n[c00000000594fa70] [c0000000004754a0] dump_stack_lvl+0x80/0xac (unreliable)\n" +
		"[c00000000594fab0] [c00000000006e36c] panic+0x144/0x3cc\n" +
		"[c00000000594fb50] [c0000000002c9d18] inner_step+0x20/0x24\n" +
		"--- interrupt: 3000 at 0x3fff93a1aff8\nNIP:  00003fff93a1aff8 LR: 00003fff93a1aff8 CTR: 0000000000000000\n" +
		"NIP [00003fff93a1aff8] 0x3fff93a1aff8\n--- interrupt: 3000\n", "panic in inner_step",
		"Kernel panic: odd in inner_step"},
	{"powerpc", "BUG: Kernel NULL pointer dereference on write at 0x00000000\n" +
		"Faulting instruction address: 0xc0000000002c9d18\nOops: Kernel access of bad area, sig: 11 [#1]\n" +
		"LE PAGE_SIZE=4K MMU=Radix SMP NR_CPUS=8 pSeries\nModules linked in:\n" + cpu +
		"NIP:  c0000000002c9d18 LR: c0000000002ca1d0 CTR: 0000000000000000\n" +
		"GPR00: 0000000000000004 00003ffff99dbee0 00003fff93b36f00 0000000000000001\n" +
		"NIP [c0000000002c9d18] inner_step+0x12/0x34\nLR [c0000000002ca1d0] outer_step+0x40/0x80\nCall Trace:\n" +
		"[c00000000594fbb0] [c0000000002ca1d0] outer_step+0x1f/0x40 (unreliable)\nCode: 4bffff68\n" +
		"---[ end trace 0000000000000000 ]---\n", "oops null-ptr-deref in inner_step", ""},
	{"riscv", "Unable to handle kernel access to user memory without uaccess routines " +
		"at virtual address 0000000000000010\n" +
		"Oops [#1]\nModules linked in:\n" + cpu + "epc : inner_step+0x12/0x34\n ra : outer_step+0x40/0x80\n" +
		"Call Trace:\n" +
		"[<ffffffff80201234>] inner_step+0x12/0x34\n---[ end trace 0 ]---\n", "oops page-fault in inner_step", ""},

	{"kasan 6.12", bar + "BUG: KASAN: slab-use-after-free in inner_step+0x12/0x34\n" +
		"Read of size 8 at addr ffff888003 by task sh/73\n\n" +
		cpu + trace + "\nAllocated by task 73:\n kasan_save_stack+0x24/0x50\n alloc_step+0x2/0x40\n\n" +
		"Freed by task 73:\n" +
		" kasan_save_stack+0x24/0x50\n free_step+0x2/0x40\n\n" +
		"The buggy address belongs to the object at ffff888003\n" + bar +
		"Disabling lock debugging due to kernel taint\n",
		"kasan slab-use-after-free in inner_step", "KASAN: slab-use-after-free in inner_step"},
	{"kasan memcpy", bar + "BUG: KASAN: use-after-free in memcpy+0x39/0x60\nRead of size 8\n" + cpu + trace + bar,
		"kasan use-after-free in outer_step", "KASAN: use-after-free in memcpy in outer_step"},
	{"kasan, a module's function that is called like an allocator", bar + "BUG: KASAN: slab-use-after-free in " +
		"kmalloc_again+0x1c0/0x5b0 [mine]\nWrite of size 1\n" + cpu + trace + bar,
		"kasan slab-use-after-free in kmalloc_again", "KASAN: slab-use-after-free in kmalloc_again"},
	{"refcount, by a module that has the header's functions", "refcount_t: saturated; leaking memory.\n" +
		"WARNING: CPU: 0 PID: 73 at lib/refcount.c:19 refcount_warn_saturate+0x5c/0x90\n" + cpu +
		"RIP: 0010:refcount_warn_saturate+0x5c/0x90\nCall Trace:\n __refcount_add+0x1/0x30 [mine]\n" +
		" list_add+0x1/0x30 [mine]\n inner_step+0x1/0x30 [mine]\n---[ end trace 0 ]---\n",
		"refcount leaking-memory in inner_step", ""},
	{"kasan double free, by a module", bar + "BUG: KASAN: double-free in kasan_report_invalid_free+0x12/0x34\n" + cpu +
		"Call Trace:\n kasan_report_invalid_free+0x12/0x34\n kfree+0x1/0x2\n kmalloc_again+0x1c0/0x5b0 [mine]\n" +
		" inner_step+0x12/0x34\n" + bar, "kasan double-free in kmalloc_again", ""},
	{"kasan, its own tests", bar + "BUG: KASAN: slab-out-of-bounds in kmalloc_oob_right+0x1c0/0x5b0\n" + cpu + trace +
		bar, "kasan slab-out-of-bounds in kmalloc_oob_right", ""},
	{"kasan double free", bar + "BUG: KASAN: double-free or invalid-free in kfree+0x12/0x34\n" + cpu + trace + bar,
		"kasan double-free-or-invalid-free in outer_step", ""},
	{"kcsan", bar + "BUG: KCSAN: data-race in b_step / a_step\n\nwrite to 0xffff8 of 8 bytes by task 73 on cpu 0:\n" +
		" b_step+0x12/0x34\n outer_step+0x12/0x34\n\nread to 0xffff8 of 8 bytes by task 74 on cpu 1:\n" +
		" a_step+0x1/0x2\n\n" +
		"Reported by Kernel Concurrency Sanitizer on:\n" + cpu + bar,
		"kcsan data-race in a_step / b_step", "KCSAN: data-race in b_step / a_step"},
	{"kfence", bar + "BUG: KFENCE: use-after-free read in inner_step+0x12/0x34\n\n" +
		"Use-after-free read at 0x0000 (in kfence-#24):\n" +
		" inner_step+0x12/0x34\n outer_step+0x1/0x20\n\nkfence-#24: 0x-0x, size=32, cache=kmalloc-32\n\n" +
		"allocated by task 73 on cpu 0 at 1.2s:\n alloc_step+0x1/0x20\n\n" + cpu + bar,
		"kfence use-after-free-read in inner_step", ""},
	{"kmsan", bar[:55] + "\nBUG: KMSAN: uninit-value in inner_step+0x12/0x34\n" +
		" inner_step+0x12/0x34 kernel/step.c:12\n" +
		" outer_step+0x12/0x34\n\nUninit was created at:\n alloc_step+0x1/0x20\n\n" + cpu + bar[:55] + "\n",
		"kmsan uninit-value in inner_step", ""},
	{"ubsan 6.12", "------------[ cut here ]------------\nUBSAN: array-index-out-of-bounds in kernel/step.c:12:16\n" +
		"index 8 is out of range for type 'char [8]'\n" + cpu + trace + "---[ end trace ]---\n",
		"ubsan array-index-out-of-bounds in outer_step",
		"UBSAN: array-index-out-of-bounds in kernel/step.c:12:16 in outer_step"},
	{"ubsan 5.10", bar + "UBSAN: shift-out-of-bounds in kernel/step.c:12:16\n" +
		"shift exponent 33 is too large\n" + cpu + trace +
		bar, "ubsan shift-out-of-bounds in outer_step", ""},
	{"ubsan 4.19", bar + "UBSAN: Undefined behaviour in kernel/step.c:12:16\n" + cpu + trace + bar,
		"ubsan undefined-behaviour in outer_step", ""},

	{"circular", "\n======================================================\n" +
		"WARNING: possible circular locking dependency detected\n6.12.117 #1 Not tainted\n" +
		"------------------------------------------------------\nsh/73 is trying to acquire lock:\n" +
		"ffffffff82 (lock_a){+.+.}-{3:3}, at: inner_step+0x12/0x34\n\nbut task is already holding lock:\n" +
		"ffffffff83 (lock_b){+.+.}-{3:3}, at: outer_step+0x1/0x34\n\n" +
		"which lock already depends on the new lock.\n\n\n" +
		"the existing dependency chain (in reverse order) is:\n\n-> #1 (lock_b){+.+.}-{3:3}:\n" +
		"       __mutex_lock+0x1/0x20\n" +
		"       other_step+0x1/0x20\n\n-> #0 (lock_a){+.+.}-{3:3}:\n       __lock_acquire+0x1/0x20\n\n" +
		"other info that might help us debug this:\n\n Possible unsafe locking scenario:\n\n *** DEADLOCK ***\n\n" +
		"1 lock held by sh/73:\n #0: ffffffff83 (lock_b){+.+.}-{3:3}, at: outer_step+0x1/0x34\n\nstack backtrace:\n" +
		cpu + trace, "lockdep circular in inner_step", "WARNING: possible circular " +
		"locking dependency detected in inner_step"},
	{"unlock balance", "=====================================\nWARNING: bad unlock balance detected!\n" +
		"6.12.117 #1 Not tainted\n-------------------------------------\nsh/83 is trying to release lock (m1) at:\n" +
		"[<ffffffff818cc0ba>] p_unlock2+0x2a/0x30\nbut there are no more locks to release!\n\n" +
		"other info that might help us debug this:\n1 lock held by sh/83:\n" +
		" #0: ffff888006aa83f0 (sb_writers#4){.+.+}-{0:0}, at: file_start_write.isra.0+0x63/0x70\n\n" +
		"stack backtrace:\n" + cpu + trace, "lockdep unbalanced in p_unlock2", ""},
	{"held in user space", "================================================\n" +
		"WARNING: lock held when returning to user space!\n6.12.117 #1 Not tainted\n" +
		"------------------------------------------------\nsh/83 is leaving the kernel with locks still held!\n" +
		"1 lock held by sh/83:\n #0: ffffffff82a59f88 (m1){+.+.}-{3:3}, at: p_held_in_user+0x12/0x20\n",
		"lockdep held-in-user in p_held_in_user", ""},
	{"rcu usage", "=============================\nWARNING: suspicious RCU usage\n6.12.117 #1 Not tainted\n" +
		"-----------------------------\nkernel/step.c:12 suspicious rcu_dereference_check() usage!\n\n" +
		"other info that might help us debug this:\n\n\nrcu_scheduler_active = 2, debug_locks = 1\n" +
		"no locks held by sh/73.\n\n" +
		"stack backtrace:\n" + cpu + trace, "rcu-usage in outer_step", ""},
	{"stall", "rcu: INFO: rcu_preempt self-detected stall on CPU\n" +
		"rcu: \t0-....: (5249 ticks this GP) idle=4a4c/1/0x4\n" +
		"rcu: \t(t=5250 jiffies g=-1099 q=5 ncpus=1)\n" + strings.TrimPrefix(regs, "Modules linked in:\n"),
		"rcu-stall in inner_step", ""},
	{"stall of what initialises a module", "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\n" +
		"rcu: RCU grace-period kthread stack dump:\nCall Trace:\n <TASK>\n __schedule+0x13e6/0x1450\n" +
		" rcu_gp_kthread+0x154/0x170\n </TASK>\nrcu: Stack dump where RCU GP kthread last ran:\n" + cpu +
		"RIP: 0010:delay_tsc+0x64/0xb0\nCall Trace:\n <TASK>\n ? 0xffffffffa0010000\n __delay+0xa/0x10\n" +
		" 0xffffffffa0010000\n first_step+0xbcc/0x1000 [mine]\n ? 0xffffffffa0010000\n do_one_initcall+0x167/0x350\n" +
		" </TASK>\n", "rcu-stall in first_step", ""},
	{"stall in a delay", "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\n" +
		"rcu: \tTasks blocked on level-0 rcu_node (CPUs 0-0): P85\nCall Trace:\n <IRQ>\n" +
		" sched_show_task+0x42f/0x460\n" +
		" rcu_sched_clock_irq+0x1699/0x1c90\n </IRQ>\n <TASK>\n asm_sysvec_apic_timer_interrupt+0x1b/0x20\n" +
		"RIP: 0010:delay_tsc+0x64/0xb0\n __delay+0xa/0x10\n __const_udelay+0x59/0x60\n inner_step+0x86/0x180 [mine]\n" +
		" </TASK>\n", "rcu-stall in inner_step", ""},
	{"hung task", "INFO: task my prog:74 blocked for more than 10 seconds.\n      Not tainted 6.12.117 #1\n" +
		"\"echo 0 > /proc/sys/kernel/hung_task_timeout_secs\" disables this message.\n" +
		"task:my prog        state:D stack:0     pid:74    tgid:74    ppid:1      flags:0x00004000\n" +
		"Call Trace:\n <TASK>\n __schedule+0x3b0/0xa80\n schedule+0x22/0xa0\n outer_step+0x12/0x30\n </TASK>\n",
		"hung-task in outer_step", "INFO: task my prog:74 blocked for more than 10 seconds. in outer_step"},
	{"soft lockup", "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [my prog:73]\n" + regs,
		"soft-lockup in inner_step", ""},
	{"hard lockup", "NMI watchdog: Watchdog detected hard LOCKUP on cpu 0\n" + regs, "hard-lockup in inner_step", ""},
	{"workqueue", "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 31s!\n" +
		"Showing busy workqueues and worker pools:\nworkqueue events: flags=0x0\n", "workqueue-lockup", ""},
	{"kmemleak", "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)\n", "kmemleak", ""},
	{"refcount", "------------[ cut here ]------------\nrefcount_t: underflow; use-after-free.\n" +
		"WARNING: CPU: 0 PID: 73 at lib/refcount.c:28 refcount_warn_saturate+0xba/0x110\n" +
		strings.Replace(regs, "inner_step", "refcount_warn_saturate", 1) + "---[ end trace 0 ]---\n",
		"refcount use-after-free in outer_step", "refcount_t: underflow; use-after-free. in outer_step"},
	{"list 6.12 bug", "list_add corruption. next->prev should be prev (0), but was 1. (next=2).\n" +
		"------------[ cut here ]------------\nkernel BUG at lib/list_debug.c:29!\n" +
		"Oops: invalid opcode: 0000 [#1] SMP\n" +
		strings.Replace(regs, "inner_step", "__list_add_valid_or_report", 1) + "---[ end trace 0 ]---\n",
		"list list_add-corruption in outer_step", ""},
	{"list warn", "------------[ cut here ]------------\n" +
		"list_del corruption, ffff888 is LIST_POISON1 (dead000000000100)\n" +
		"WARNING: CPU: 0 PID: 73 at lib/list_debug.c:47 __list_del_entry_valid+0xba/0x110\n" +
		strings.Replace(regs, "inner_step", "__list_del_entry_valid", 1) + "---[ end trace 0 ]---\n",
		"list list_del-corruption in outer_step", ""},
	{"list double add", "------------[ cut here ]------------\n" +
		"list_add double add: new=ffff888005cd2e00, prev=ffffc90000357bb0, next=ffff888005cd2e00.\n" +
		"WARNING: CPU: 0 PID: 83 at lib/list_debug.c:35 __list_add_valid_or_report+0xba/0x110\n" +
		strings.Replace(regs, "inner_step", "__list_add_valid_or_report", 1) + "---[ end trace 0 ]---\n",
		"list list_add-double-add in outer_step", ""},
	{"list del, not inlined", "------------[ cut here ]------------\n" +
		"list_del corruption, ffff888005cd2e00->next is LIST_POISON1 (dead000000000100)\n" +
		"WARNING: CPU: 0 PID: 83 at lib/list_debug.c:56 __list_del_entry_valid_or_report+0xba/0x110\n" +
		strings.NewReplacer("inner_step", "__list_del_entry_valid_or_report", " <TASK>\n",
			" <TASK>\n __list_del_entry+0xf/0xb0\n").Replace(regs) + "---[ end trace 0 ]---\n",
		"list list_del-corruption in outer_step", ""},
	{"slub", bar + "BUG kmalloc-64 (Not tainted): Right Redzone overwritten\n" + strings.Repeat("-", 77) + "\n\n" +
		"0xffff888003-0xffff888003 @offset=64. First byte 0x0 instead of 0xcc\n" +
		"Allocated in alloc_step+0x1/0x2 age=1 cpu=0 pid=73\n" +
		" kmalloc_trace+0x1/0x20\n alloc_step+0x1/0x2\nSlab 0xffffea0 objects=32 used=1 fp=0x0 flags=0x100\n" +
		"Object   ffff88: 00 01\n" + cpu + trace + "FIX kmalloc-64: Restoring Right Redzone 0xffff88-0xffff88=0xcc\n",
		"slab right-redzone-overwritten in outer_step", ""},
	{"bad page", "BUG: Bad page state in process sh  pfn:03abc\n" +
		"page: refcount:0 mapcount:0 mapping:0 index:0x0 pfn:0x3abc\n" +
		"flags: 0x100000000000000(node=0|zone=1)\npage dumped because: nonzero _refcount\n" +
		"Modules linked in:\n" + cpu + trace,
		"bad-page state in outer_step", ""},
	{"atomic", "BUG: scheduling while atomic: my prog/73/0x00000002\nModules linked in:\n" + cpu + trace,
		"atomic in outer_step", ""},
	{"workqueue 6.12", "BUG: workqueue leaked atomic, lock or RCU: kworker/0:1[9]\n" +
		"     preempt=0x00000000 lock=0->1 RCU=0->0 workfn=inner_step\n1 lock held by kworker/0:1/9:\n" +
		" #0: ffffffff83 (lock_b){+.+.}-{3:3}, at: inner_step+0x1/0x34\n" + cpu + trace,
		"atomic workqueue in inner_step", "BUG: workqueue leaked atomic, lock or RCU: kworker/0:1[9] in inner_step"},
	{"workqueue 5.10", "BUG: workqueue leaked lock or atomic: kworker/0:1/0x00000000/9\n" +
		"     last function: inner_step\n" + cpu + trace, "atomic workqueue in inner_step", ""},
	{"bad page cache", "BUG: Bad page cache in process sh  pfn:03abc\n" + cpu + trace,
		"bad-page cache in outer_step", ""},
	{"suppressed", "BUG: Bad page state: 12 messages suppressed\n", "bad-page suppressed", ""},
	{"page poison", "pagealloc: memory corruption\n00000000b7a5c0f2: 78 78 78 78    xxxx\n" + cpu + trace +
		"page:00000000aabbccdd refcount:1 mapcount:0 pfn:0x3abc\n" +
		"page dumped because: pagealloc: corrupted page details\n", "bad-page memory-corruption in outer_step", ""},
	{"chain key", "============================\nWARNING: chain_key collision\n6.12.117 #1 Not tainted\n" +
		"----------------------------\nsh/73: Hash chain already cached but the contents don't match!\n" +
		"\nstack backtrace:\n" + cpu + trace, "lockdep chain-key in outer_step", ""},
	{"stall that is not told whole", "rcu: INFO: rcu_preempt detected stall, but suppressed full report due to " +
		"a stuck CSD-lock.\n", "rcu-stall", ""},
	{"sleep", "BUG: sleeping function called from invalid context at kernel/step.c:22\n" +
		"in_atomic(): 1, irqs_disabled(): 0, non_block: 0, pid: 73, name: sh\n" +
		"preempt_count: 1, expected: 0\n" + cpu + trace,
		"sleep in outer_step", ""},
	{"preemptible", "BUG: using smp_processor_id() in preemptible [00000000] code: my prog/73\n" +
		"caller is outer_step+0x1/0x2\n" +
		cpu + trace, "preemptible smp_processor_id in outer_step", ""},
	{"spinlock", "BUG: spinlock recursion on CPU#0, my prog/73\n" +
		" lock: lock_a+0x0/0x40, .magic: dead4ead, .owner: sh/73\n" +
		cpu + trace, "spinlock recursion in outer_step", ""},
	{"usercopy", "usercopy: Kernel memory exposure attempt detected from SLUB object " +
		"'kmalloc-64' (offset 0, size 128)!\n" +
		"------------[ cut here ]------------\nkernel BUG at mm/usercopy.c:102!\n" +
		"Oops: invalid opcode: 0000 [#1] SMP\n" +
		strings.Replace(regs, "inner_step", "usercopy_abort", 1) + "---[ end trace 0 ]---\n",
		"usercopy in outer_step", ""},
	{"fortify 6.12", "------------[ cut here ]------------\n" +
		"memcpy: detected buffer overflow: 20 byte write of buffer size 10\n" +
		"WARNING: CPU: 0 PID: 73 at lib/string_helpers.c:1032 __fortify_report+0x45/0x50\n" +
		strings.Replace(regs, "inner_step", "__fortify_report", 1) + "---[ end trace 0 ]---\n",
		"fortify memcpy in outer_step", ""},
	{"odebug", "------------[ cut here ]------------\n" +
		"ODEBUG: free active (active state 0) object type: timer_list hint: foo\n" +
		"WARNING: CPU: 0 PID: 73 at lib/debugobjects.c:514 debug_print_object+0x67/0x90\n" +
		strings.Replace(regs, "inner_step", "debug_print_object", 1) + "---[ end trace 0 ]---\n",
		"odebug free-active in outer_step", ""},
	{"cfi", "CFI failure at inner_step+0x12/0x34 (target: other+0x0/0x10; expected type: 0x12345678)\n" +
		"Oops: invalid opcode: 0000 [#1] SMP\n" + regs + "---[ end trace 0 ]---\n", "cfi in inner_step", ""},
	{"stack protector", "Kernel panic - not syncing: stack-protector: Kernel stack " +
		"is corrupted in: inner_step+0x12/0x34\n" +
		cpu + trace + "---[ end Kernel panic - not syncing: stack-protector ]---\n", "stack-protector in inner_step",
		"Kernel panic: stack-protector: Kernel stack is corrupted in: inner_step+0x12/0x34"},
	{"panic", "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n" + cpu + trace +
		"---[ end Kernel panic - not syncing: VFS: Unable ]---\n", "panic in outer_step",
		"Kernel panic: VFS: Unable to mount root fs on unknown-block(0,0) in outer_step"},
}

const bar = "==================================================================\n"

func TestKinds(t *testing.T) {
	for _, test := range reports {
		forms := map[string]string{
			"plain":   test.log,
			"stamped": stamped(test.log),
			"crlf":    strings.ReplaceAll(stamped(test.log), "\n", "\r\n"),
			"caller":  strings.ReplaceAll(stamped(test.log), "567] ", "567][  T73] "),
			"level":   strings.ReplaceAll(stamped(test.log), "[    1", "<4>[    1"),
			"syslog":  strings.ReplaceAll(stamped(test.log), "[    1", "Nov 27 10:00:00 host kernel: [    1"),
			"noise": stamped("Linux version 6.12.117 (a@b)\n") + "Welcome!\nBUG: kernel: of a program\n" +
				stamped("random: crng init done\n") + "host login: " + stamped(test.log) + "WARNING: " +
				"CPU: 1 PID: 2 at no.c:1 f+0x1/0x2\n" +
				strings.ReplaceAll(stamped("EXT4-fs (vda): re-mounted\n"), " 1.", "99."),
		}
		for form, log := range forms {
			for _, pieces := range []int{0, 1, 7} {
				found := read(log, pieces).Reports()
				if len(found) != 1 {
					t.Errorf("%s, %s: %d reports", test.name, form, len(found))
					for _, r := range found {
						t.Logf("  %s | %v", r.Key, r.Text)
					}
					continue
				}
				r := found[0]
				if r.Key != test.key || test.title != "" && r.Title != test.title || r.Truncated || r.Mixed {
					t.Errorf("%s, %s: key %q, title %q, truncated %v, mixed %v; want %q, %q",
						test.name, form, r.Key, r.Title, r.Truncated, r.Mixed, test.key, test.title)
				}
				if !slices.Contains(Kinds, found[0].Kind) {
					t.Errorf("%s: %s is not among the kinds", test.name, found[0].Kind)
				}
			}
		}
	}
}

func TestStops(t *testing.T) {
	there := func(names ...string) func(string) bool {
		return func(f string) bool { return slices.Contains(names, f) }
	}
	for _, tt := range []struct {
		report Report
		have   func(string) bool
		want   string
	}{
		{Report{Kind: Oops}, there("die", "panic", "dump_stack"), "die"},
		{Report{Kind: Oops, Panic: "Fatal exception"}, there("die", "panic", "vpanic"), "vpanic panic"},
		{Report{Kind: StackProtector, Panic: "x"}, there("__stack_chk_fail", "panic"), "__stack_chk_fail"},
		{Report{Kind: HungTask}, there("dump_stack_lvl"), "dump_stack_lvl"},
		{Report{Kind: Slab}, there("dump_stack"), "dump_stack"},
		{Report{Kind: Slab}, there(), ""},
	} {
		if got := strings.Join(tt.report.Stops(tt.have), " "); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.report.Kind, got, tt.want)
		}
	}
	for kind := range stops {
		if !slices.Contains(Kinds, kind) {
			t.Errorf("%q is no kind", kind)
		}
	}
}

func TestLast(t *testing.T) {
	warn, oops, later := &Report{Kind: Warning}, &Report{Kind: Oops, Panic: "x"}, &Report{Kind: Bug}
	for _, tt := range []struct {
		list []*Report
		want *Report
	}{
		{nil, nil}, {[]*Report{oops, warn}, oops}, {[]*Report{warn, oops, later}, oops},
		{[]*Report{warn, later}, later},
	} {
		if got := Last(tt.list); got != tt.want {
			t.Errorf("%v: %v", tt.list, got)
		}
	}
}

func TestStringSaysWho(t *testing.T) {
	pid := 7
	for want, r := range map[string]Report{
		"INFO: task tar:7 blocked for more than 5 seconds, by tar (pid 7)": {
			Title: "INFO: task tar:7 blocked for more than 5 seconds.", Task: "tar", PID: &pid},
		"Kernel panic - not syncing: no init.": {Title: "Kernel panic - not syncing: no init."},
	} {
		if got := r.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Where an object was allocated or freed is behind what the allocator and KASAN do, inlined or not.
func TestTellsOfAllocator(t *testing.T) {
	for _, name := range []string{"kasan_save_stack", "kasan_save_track", "poison_kmalloc_redzone",
		"poison_slab_object", "unpoison_slab_object", "poison_kmalloc_large_redzone", "__kasan_kmalloc",
		"__kmalloc_cache_noprof", "kfree"} {
		if !(Frame{Function: name}).Tells() {
			t.Errorf("%s is not", name)
		}
	}
	if (Frame{Function: "lkdtm_WRITE_AFTER_FREE"}).Tells() {
		t.Error("a driver's function is")
	}
}
