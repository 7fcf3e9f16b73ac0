package splat

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// find returns the reports of a kind in a log.
func find(t *testing.T, log, key string) *Report {
	t.Helper()
	reports := read(log, 0).Reports()
	for _, r := range reports {
		if r.Key == key {
			return r
		}
	}
	t.Fatalf("no report %q among %d", key, len(reports))
	return nil
}

// TestReturns: a stack's first frame may be the instruction itself, and so is what an exception came to; the line
// of the others is the one before.
func TestReturns(t *testing.T) {
	fault := "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000000\n" + cpu
	for _, tt := range []struct {
		name, log string
		want      []bool
	}{
		{"arm64", "pc : inner_step+0x12/0x34\nlr : outer_step+0x40/0x80\nCall trace:\n inner_step+0x12/0x34\n" +
			" outer_step+0x40/0x80\n", []bool{false, true}},
		{"arm64, recursion", "pc : inner_step+0x12/0x34\nCall trace:\n inner_step+0x12/0x34\n" +
			" inner_step+0x12/0x34\n", []bool{false, true}},
		{"arm64, another instruction", "pc : inner_step+0x12/0x34\nCall trace:\n inner_step+0x14/0x34\n",
			[]bool{true}},
		{"arm64 6.13", "pc : inner_step+0x12/0x34\nCall trace:\n inner_step+0x12/0x34 (P)\n " +
			" outer_step+0x40/0x80 (L)\n el1h_64_irq+0x6c/0x70\n cut_step+0x8/0x10 (P)\n outer_step+0x20/0x80\n",
			[]bool{false, true, true, false, true}},
		{"arm64 6.1, an interrupt", "pc : inner_step+0x12/0x34\nCall trace:\n inner_step+0x12/0x34\n" +
			" el1h_64_irq+0x64/0x68\n cut_step+0x8/0x10\n outer_step+0x20/0x80\n", []bool{false, true, false, true}},
		{"arm64 5.10, an interrupt", "Call trace:\n inner_step+0x12/0x34\n el1_irq+0xb0/0x140\n cut_step+0x8/0x10\n",
			[]bool{true, true, false}},
		{"riscv", "epc : inner_step+0x12/0x34\n ra : outer_step+0x40/0x80\nCall Trace:\n" +
			"[<ffffffff80201234>] inner_step+0x12/0x34\n[<ffffffff80201234>] handle_exception+0xcc/0xd8\n" +
			"[<ffffffff80201234>] cut_step+0x8/0x10\n[<ffffffff80201234>] outer_step+0x12/0x34\n",
			[]bool{false, true, false, true}},
		{"x86-64", "RIP: 0010:inner_step+0x12/0x34\nCall Trace:\n <TASK>\n outer_step+0x12/0x34\n" +
			" ? cut_step+0x1/0x10\n", []bool{true, true}},
	} {
		reports := read(fault+tt.log+"---[ end trace 0 ]---\n", 0).Reports()
		if len(reports) != 1 || len(reports[0].Traces) != 1 {
			t.Errorf("%s: %+v", tt.name, reports)
			continue
		}
		var got []bool
		for _, f := range reports[0].Traces[0].Frames {
			got = append(got, f.Return)
		}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %v are returned to, want %v", tt.name, got, tt.want)
		}
	}
}

// TestRegistersOfRiscv: most of its lines begin with a space.
func TestRegistersOfRiscv(t *testing.T) {
	regs := []string{"epc : inner_step+0x12/0x34", " ra : outer_step+0x40/0x80",
		"epc : ffffffff8010a2b4 ra : ffffffff8010a2a0 sp : ff2000000060bc30",
		" gp : ffffffff812d8d28 tp : ff60000002a38000 t0 : 0000000000000000", " t1 : 0000000000000001",
		" s1 : ff6000000288e000 a0 : ff6000000288e000 a1 : 0000000000000001",
		" s10: 0000000000000000 s11: 0000000000000000",
		"status: 0000000200000120 badaddr: 0000000000000000 cause: 000000000000000d"}
	r := find(t, "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000000\nOops [#1]\n"+
		"Modules linked in:\n"+cpu+strings.Join(regs, "\n")+"\nCall Trace:\n"+
		"[<ffffffff8010a2b4>] inner_step+0x12/0x34\n[<ffffffff8010b2b4>] outer_step+0x42/0x80\n"+
		"Code: 0000 0000 (0000)\n---[ end trace 0 ]---\n", "oops null-ptr-deref in inner_step")
	if want := append(regs, "Code: 0000 0000 (0000)"); !reflect.DeepEqual(r.Registers, want) {
		t.Errorf("registers %q, want %q", r.Registers, want)
	}
	if len(r.Traces) != 1 || len(r.Traces[0].Frames) != 2 {
		t.Errorf("%+v", r.Traces)
	}
}

func TestArm64PanicsOverItsOops(t *testing.T) {
	reports := read("Internal error: synchronous external abort: 0000000096000210 [#1] SMP\n"+cpu+
		"pc : inner_step+0x12/0x34\nCall trace:\n inner_step+0x12/0x34\n---[ end trace 0 ]---\n"+
		"Kernel panic - not syncing: synchronous external abort: Fatal exception\n", 0).Reports()
	if len(reports) != 1 || reports[0].Kind != Oops ||
		reports[0].Panic != "synchronous external abort: Fatal exception" {
		t.Errorf("%+v, want one report, over which the kernel panicked", reports)
	}
}

func TestReportInFull(t *testing.T) {
	log := stamped("------------[ cut here ]------------\nstep 3 is odd\n" +
		"WARNING: CPU: 0 PID: 73 at kernel/step.c:12 inner_step+0x12/0x34 [mod " + strings.Repeat("cd", 20) + "]\n" +
		"Modules linked in: mod\nCPU: 2 UID: 0 PID: 73 Comm: my prog Tainted: G        W  O       6.12.117 #1 " +
		strings.Repeat("ab", 20) + "\nTainted: [W]=WARN\nRIP: 0010:inner_step+0x12/0x34 [mod]\nCode: 0f\n" +
		"RAX: 0000000000000001 RBX: 0000000000000002\n" +
		"Call Trace:\n <IRQ>\n __warn+0x1/0x2\n </IRQ>\n <TASK>\n ? maybe_step+0x1f/0x40\n" +
		" outer_step.isra.0+0x1f/0x40 [mod]\n" +
		"RIP: 0010:cut_step+0x1/0x2\n </TASK>\nirq event stamp: 3\n---[ end trace 0000000000000000 ]---\n")
	r := find(t, log, "warning in inner_step")
	if r.Task != "my prog" || *r.PID != 73 || *r.CPU != 2 || r.Taints != "G W O" || r.Release != "6.12.117" ||
		r.BuildID != strings.Repeat("ab", 20) || r.Time != "1.234567" || r.Line != 1 || len(r.Text) != 20 {
		t.Errorf("%+v", *r)
	}
	if want := []Frame{
		{Function: "__warn", Offset: 1, Size: 2, Context: "IRQ", Return: true},
		{Function: "maybe_step", Offset: 0x1f, Size: 0x40, Context: "TASK", Unreliable: true, Return: true},
		{Function: "outer_step.isra.0", Offset: 0x1f, Size: 0x40, Module: "mod", Context: "TASK", Return: true},
		{Function: "cut_step", Offset: 1, Size: 2, Context: "TASK"},
	}; len(r.Traces) != 1 || !reflect.DeepEqual(r.Traces[0].Frames, want) {
		t.Errorf("%+v, want %+v", r.Traces, want)
	}
	if r.At == nil || r.At.Function != "inner_step" || r.At.BuildID == "" || r.At.Return {
		t.Errorf("at %+v", r.At)
	}
	if len(r.Registers) != 4 {
		t.Errorf("registers %q", r.Registers)
	}
	r.At.Source = []Place{{"tiny", "kernel/tiny.h", 3}, {"inner_step", "kernel/step.c", 12}}
	if got := strings.Join(r.Lines()[:4], "\n"); got != "WARNING in inner_step at "+
		"kernel/step.c:12: step 3 is odd, by my prog "+
		"(pid 73)\n  at inner_step+0x12/0x34 [mod]\n    tiny at kernel/tiny.h:3 (inlined)\n"+
		"    inner_step at kernel/step.c:12" {
		t.Error(got)
	}
}

func TestStacksOfAnObject(t *testing.T) {
	for _, test := range reports {
		if test.name != "kasan 6.12" {
			continue
		}
		r := find(t, stamped(test.log), test.key)
		var names []string
		for _, trace := range r.Traces {
			names = append(names, fmt.Sprint(trace.Name, " ", trace.Frames[len(trace.Frames)-1].Function))
		}
		if got := strings.Join(names, ", "); got !=
			" entry_SYSCALL_64_after_hwframe, Allocated by task 73 alloc_step, Freed by task 73 free_step" {
			t.Error(got)
		}
	}
}

func TestConsequences(t *testing.T) {
	for _, test := range reports {
		if test.name == "null 6.12" {
			if r := find(t, test.log, test.key); r.Panic != "Fatal exception" {
				t.Errorf("panic %q", r.Panic)
			}
		}
	}
	log := "------------[ cut here ]------------\n" +
		"WARNING: CPU: 0 PID: 73 at kernel/step.c:12 inner_step+0x12/0x34\n" +
		"Kernel panic - not syncing: kernel: panic_on_warn set ...\n" + cpu + trace + "---[ end Kernel panic ]---\n"
	if r := find(t, log, "warning in inner_step"); r.Panic == "" || r.Truncated || len(read(log, 0).Reports()) != 1 {
		t.Errorf("%+v", r)
	}
}

// TestSeveralCPUs has two CPUs complain at once, line by line.
func TestSeveralCPUs(t *testing.T) {
	of := func(n int) []string {
		return strings.Split(strings.TrimSuffix(fmt.Sprintf("------------[ cut here ]------------\n"+
			"WARNING: CPU: %[1]d PID: 7%[1]d at kernel/step.c:12 inner_%[1]d+0x12/0x34\nModules linked in:\n"+
			"CPU: %[1]d UID: 0 PID: 7%[1]d Comm: sh%[1]d Not tainted 6.12.117 #1\nRIP: 0010:inner_%[1]d+0x12/0x34\n"+
			"RAX: 000000000000000%[1]d RBX: 0000000000000002\nCall Trace:\n <TASK>\n outer_%[1]d+0x1f/0x40\n"+
			" </TASK>\n"+
			"---[ end trace 0000000000000000 ]---\n", n), "\n"), "\n")
	}
	a, b := of(0), of(1)
	for _, callers := range []bool{true, false} {
		for shift := range len(a) {
			var log strings.Builder
			say := func(n int, text string) {
				caller := ""
				if callers {
					caller = fmt.Sprintf("[    C%d]", n)
				}
				fmt.Fprintf(&log, "[    1.234567]%s %s\n", caller, text)
			}
			for i := range len(a) + shift {
				if i < len(a) {
					say(0, a[i])
				}
				if i >= shift {
					say(1, b[i-shift])
				}
			}
			found := read(log.String(), 0).Reports()
			if len(found) != 2 {
				t.Errorf("callers %v, %d lines apart: %d reports", callers, shift, len(found))
				continue
			}
			for _, r := range found {
				n := *r.CPU
				if r.Key != fmt.Sprintf("warning in inner_%d", n) || r.Task != fmt.Sprint("sh", n) || r.Truncated ||
					r.Mixed != (!callers && shift < 9) {
					t.Errorf("callers %v, %d lines apart: %+v", callers, shift, r)
				}
				if want := fmt.Sprintf("outer_%d", n); callers && r.Traces[0].Frames[0].Function != want {
					t.Errorf("%d lines apart: %+v, want %s", shift, r.Traces, want)
				}
			}
		}
	}
}

func TestNoReports(t *testing.T) {
	for _, log := range []string{
		"",
		"Call Trace:\n dump_stack+0x1/0x2\n outer_step+0x1/0x2\n", // a sysrq's, an allocation's
		"traps: prog[73] general protection fault ip:55d error:0 in prog[55d+1000]\n",
		"traps: prog[73] trap divide error ip:55d sp:7ff error:0 in prog\n",
		"prog[73]: segfault at 0 ip 000055d sp 00007ff error 6 in prog\n",
		"[Firmware Bug]: TSC frequency mismatch\n[Hardware Error]: Machine check\n",
		"ACPI BIOS Error (bug): Could not resolve symbol\nbug: BUG of nothing\n",
		"INFO: NMI handler (perf) took too long to run: 1.2 msecs\nINFO: lockdep is turned off.\n",
		"systemd[1]: BUG: something\nWARNING: this is no kernel's\nBUGS\n",
		"Lockdep is enabled\nkmemleak: Kernel memory leak detector initialized (mem pool available: 15726)\n",
		"rcu: INFO\nKASLR disabled\nkasan: KernelAddressSanitizer initialized\n",
		"==================================================================\n",
		"------------[ cut here ]------------\n",
	} {
		for _, log := range []string{log, stamped(log)} {
			if found := read(log, 0).Reports(); len(found) != 0 {
				t.Errorf("%q: %+v", log, found[0])
			}
		}
	}
	// What a program writes to the same console is not the kernel's, and a log that is printed again is no news.
	warn := stamped(reports[0].log)
	if found := read(warn+reports[5].log+warn, 0).Reports(); len(found) != 1 {
		t.Errorf("%d reports, want 1", len(found))
	}
}

func TestTruncated(t *testing.T) {
	for _, test := range reports {
		log := stamped(test.log)
		for at := 0; at < len(log); at += 7 { // each line is cut somewhere
			r := read(log[:at], 0)
			n := len(r.Reports())
			if n == 2 && r.Reports()[1].Kind == Panic {
				continue // over what is cut off
			}
			if n > 1 {
				t.Fatalf("%s: %d reports in %q", test.name, n, log[:at])
			}
		}
	}
	whole := stamped(reports[0].log)
	if found := read(whole[:len(whole)/2], 0).Reports(); len(found) != 1 || !found[0].Truncated {
		t.Errorf("%+v", found)
	}
}

func TestBounds(t *testing.T) {
	var log strings.Builder
	for i := range 3 * maxReports {
		fmt.Fprintf(&log, "[%5d.000000][ T%d] WARNING: CPU: 0 PID: 1 at a.c:1 f%d+0x1/0x2\n", i, i, i)
		fmt.Fprintf(&log, "[%5d.000000][ T%d] ---[ end trace 0 ]---\n", i, i)
	}
	r := read(log.String(), 0)
	if len(r.Reports()) != maxReports || r.Dropped() != 2*maxReports || len(r.from) > maxCallers {
		t.Errorf("%d reports, %d dropped, %d sources", len(r.Reports()), r.Dropped(), len(r.from))
	}
	log.Reset()
	for i := range 50 {
		fmt.Fprintf(&log, "[%5d.000000] kmemleak: 3 new suspected memory leaks (see /sys)\n", i)
	}
	if r := read(log.String(), 0); len(r.Reports()) != maxOfAKey || r.Reports()[0].Again != 50-maxOfAKey {
		t.Errorf("%d reports of one fault, %d more", len(r.Reports()), r.Reports()[0].Again)
	}
	endless := stamped("kernel BUG at a.c:1!\n" + strings.Repeat("Call Trace:\n f+0x1/0x2\n", 5*maxFrames))
	found := read(endless, 0).Reports()[0]
	frames := 0
	for range found.Frames {
		frames++
	}
	if len(found.Text) > maxText || frames > maxFrames || len(found.Traces) > maxTraces {
		t.Errorf("%d lines, %d frames, %d traces", len(found.Text), frames, len(found.Traces))
	}
	r = &Reader{}
	for range 1000 {
		r.Write([]byte(strings.Repeat("x", 1000)))
	}
	if len(r.part) > 2*maxLine {
		t.Errorf("%d bytes of a line are kept", len(r.part))
	}
}

// A report is found however its log was passed on, and whatever a program has written before it on its line.
func TestForms(t *testing.T) {
	log := stamped(reports[0].log)
	want := find(t, log, reports[0].key)
	each := func(put func(i int, line string) string) string {
		var b strings.Builder
		i := 0
		for line := range strings.Lines(log) {
			b.WriteString(put(i, line))
			i++
		}
		return b.String()
	}
	before := func(text string) string { return each(func(_ int, line string) string { return text + line }) }
	at := regexp.MustCompile(`^\[ *(\d+)\.(\d+)\] `)
	for name, log := range map[string]string{
		"dmesg -x":           before("kern  :warn  : "),
		"a CI's log":         before("2026-11-28T16:00:00.0000000Z "),
		"a mail":             before("> "),
		"a mail of a mail":   before("> > "),
		"a mail of dmesg -x": before("> kern  :err   : "),
		"a console's name":   before("ttyS0: "),
		"of several guests":  before("guest1 | "),
		"indented":           before("    "),
		"syslog":             before("Nov 28 16:00:00 host kernel: "),
		"journalctl short-monotonic": each(func(_ int, line string) string {
			return strings.Replace(line, "] ", "] host kernel: ", 1)
		}),
		"/dev/kmsg": each(func(i int, line string) string {
			m := at.FindStringSubmatch(line)
			return fmt.Sprintf("4,%d,%s%s,-;%s", i, strings.TrimLeft(m[1], "0"), m[2], line[len(m[0]):])
		}),
		"half a control sequence": "[    0.000001] Linux\n\033[0;1;3" + log,
		"half a title":            "[    0.000001] Linux\n\033]0;" + log,
		"a long line":             "[    0.000001] Linux\n" + strings.Repeat("a", 300000) + log,
		"a time of a program's":   "[    0.000001] Linux\n[   99.000001] " + log,
	} {
		got := find(t, log, reports[0].key)
		if diff := cmp.Diff(want.Text, got.Text); diff != "" {
			t.Errorf("%s: its text (-want +got):\n%s", name, diff)
		}
	}
	untimed := find(t, reports[0].log, reports[0].key)
	for name, before := range map[string]string{
		"a mail": "> ", "dmesg -x": "kern  :warn  : ", "a CI": "2026-11-28T16:00:00Z ",
	} {
		var b strings.Builder
		for line := range strings.Lines(reports[0].log) {
			b.WriteString(before + line)
		}
		if diff := cmp.Diff(untimed.Text, find(t, b.String(), reports[0].key).Text); diff != "" {
			t.Errorf("%s, without times (-want +got):\n%s", name, diff)
		}
	}
}

// TestClean has consoles of boots and commands in which nothing was wrong.
func TestClean(t *testing.T) {
	names, err := filepath.Glob("testdata/clean/*.log")
	if err != nil || len(names) == 0 {
		t.Fatal(err, "no consoles")
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range read(string(b), 0).Reports() {
			t.Errorf("%s: %s in line %d", name, r.Title, r.Line)
		}
	}
}

func FuzzReader(f *testing.F) {
	for _, test := range reports {
		f.Add([]byte(test.log))
		f.Add([]byte(stamped(test.log)))
	}
	f.Fuzz(func(t *testing.T, log []byte) {
		whole, pieces := read(string(log), 0), read(string(log), 5)
		if len(whole.Reports()) != len(pieces.Reports()) {
			t.Fatalf("%d reports whole, %d in pieces", len(whole.Reports()), len(pieces.Reports()))
		}
		for i, r := range whole.Reports() {
			if !reflect.DeepEqual(r, pieces.Reports()[i]) {
				t.Fatalf("whole %+v, in pieces %+v", r, pieces.Reports()[i])
			}
			if r.Key == "" || r.Title == "" || len(r.Text) == 0 || len(r.Lines()) == 0 {
				t.Fatalf("an empty report: %+v", r)
			}
		}
	})
}

func BenchmarkReader(b *testing.B) {
	clean, err := os.ReadFile("testdata/clean/6.12-systemd.log")
	if err != nil {
		b.Skip(err)
	}
	b.SetBytes(int64(len(clean)))
	for b.Loop() {
		r := &Reader{}
		r.Write(clean)
	}
}

var update = flag.Bool("update", false, "write the golden files anew")

// TestProvoked has consoles of Debian's kernels in which a module did one wrong thing after the other, each named in
// a line "provoke: ..." before it.
func TestProvoked(t *testing.T) {
	logs, err := filepath.Glob("testdata/provoked/*.log")
	if err != nil || len(logs) == 0 {
		t.Fatal(err, "no consoles")
	}
	for _, name := range logs {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for _, r := range read(string(b), 0).Reports() {
			fmt.Fprintf(&got, "%s\n\t%s\n", r.Key, r)
			if r.Truncated || r.Mixed {
				t.Errorf("%s: %s: truncated %v, mixed %v", name, r.Key, r.Truncated, r.Mixed)
			}
		}
		golden := strings.TrimSuffix(name, ".log") + ".txt"
		if *update {
			if err := os.WriteFile(golden, []byte(got.String()), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got.String() != string(want) {
			t.Errorf("%s: %s\nwant %s", name, got.String(), want)
		}
	}
}
