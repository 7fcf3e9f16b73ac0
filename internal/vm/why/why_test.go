package why

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kimg/kimg/internal/gdb"
	"github.com/kimg/kimg/internal/recording"
	"github.com/kimg/kimg/internal/splat"
	"golang.org/x/arch/x86/x86asm"
)

// assembled is an instruction, of the bytes that GNU as makes of it.
func assembled(t *testing.T, code string) insn {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(code, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return read(gdb.Instruction{Address: 0x1000, Code: b})
}

func TestGives(t *testing.T) {
	for _, tt := range []struct {
		text, code string
		reg        x86asm.Reg
		want       string
	}{
		{"mov 0x18(%rax),%rdx", "48 8b 50 18", x86asm.RDX, "loads [RAX+0x18] 8"},
		{"mov 0x18(%rax),%rdx", "48 8b 50 18", x86asm.RAX, "-"},
		{"movzbl (%rdi),%eax", "0f b6 07", x86asm.RAX, "loads [RDI] 1"},
		{"mov %rsi,%rbx", "48 89 f3", x86asm.RBX, "copies RSI"},
		{"mov %esi,%ebx", "89 f3", x86asm.RBX, "copies RSI"},
		{"lea -0x8(%rbx),%rdi", "48 8d 7b f8", x86asm.RDI, "copies RBX"},
		{"lea 0x8(%rdi),%rdi", "48 8d 7f 08", x86asm.RDI, "keeps"},
		{"lea (%rax,%rcx,8),%rdi", "48 8d 3c c8", x86asm.RDI, "computes"},
		{"xor %eax,%eax", "31 c0", x86asm.RAX, "constant"},
		{"mov $0x5,%edi", "bf 05 00 00 00", x86asm.RDI, "constant"},
		{"add $0x8,%rax", "48 83 c0 08", x86asm.RAX, "keeps"},
		{"add %rcx,%rax", "48 01 c8", x86asm.RAX, "computes"},
		{"cmp %rcx,%rax", "48 39 c8", x86asm.RAX, "-"},
		{"test %rax,%rax", "48 85 c0", x86asm.RAX, "-"},
		{"mov %rax,(%rdi)", "48 89 07", x86asm.RAX, "-"},
		{"call +0", "e8 00 00 00 00", x86asm.RAX, "returns"},
		{"call +0", "e8 00 00 00 00", x86asm.RBX, "-"},
		{"pop %rbx", "5b", x86asm.RBX, "loads [RSP] 8"},
		{"leave", "c9", x86asm.RBP, "loads [RBP] 8"},
		{"rep stos %rax,%es:(%rdi)", "f3 48 ab", x86asm.RDI, "keeps"},
		{"xchg %rax,(%rdx)", "48 87 02", x86asm.RAX, "loads [RDX] 8"},
		{"inc %ecx", "ff c1", x86asm.RCX, "keeps"},
		{"cqto", "48 99", x86asm.RDX, "computes"},
	} {
		if got := described(gives(assembled(t, tt.code).Inst, tt.reg)); got != tt.want {
			t.Errorf("%s gives %v: %s, want %s", tt.text, tt.reg, got, tt.want)
		}
	}
}

func described(s source) string {
	switch s.how {
	case loads:
		return fmt.Sprintf("loads %s %d", s.mem, s.size)
	case copies:
		return "copies " + s.reg.String()
	}
	return map[origin]string{untouched: "-", keeps: "keeps", constant: "constant", computes: "computes",
		returns: "returns"}[s.how]
}

func TestWrites(t *testing.T) {
	for _, tt := range []struct{ text, code, want string }{
		{"mov %rax,0x8(%rdi)", "48 89 47 08", "[RDI+0x8] 8 copies RAX"},
		{"movq $0x0,(%rdi)", "48 c7 07 00 00 00 00", "[RDI] 8 constant"},
		{"movb $0x1,(%rdi)", "c6 07 01", "[RDI] 1 constant"},
		{"push %rbx", "53", "[RSP-0x8] 8 copies RBX"},
		{"rep stos %rax,%es:(%rdi)", "f3 48 ab", "[RDI] 8 copies RAX"},
		{"rep movsb %ds:(%rsi),%es:(%rdi)", "f3 a4", "[RDI] 1 loads [RSI] 1"},
		{"lock incl (%rdi)", "f0 ff 07", "[RDI] 4 computes"},
		{"mov (%rdi),%rax", "48 8b 07", "none"},
		{"cmpl $0x0,(%rdi)", "83 3f 00", "none"},
		{"call *0x18(%rax)", "ff 50 18", "[RSP-0x8] 8 constant"},
		{"nopw 0x0(%rax,%rax,1)", "66 0f 1f 44 00 00", "none"},
	} {
		s, ok := writes(assembled(t, tt.code).Inst)
		got := "none"
		if ok {
			got = fmt.Sprintf("%s %d %s", s.mem, s.size, described(s.from))
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.text, got, tt.want)
		}
	}
}

func TestConditions(t *testing.T) {
	jump, compare := assembled(t, "0f 85 00 00 00 00"), assembled(t, "48 39 05 00 10 00 00") // cmp %rax,0x1000(%rip)
	if !decides(jump.Inst) || decides(compare.Inst) || !compares(compare.Inst) || compares(jump.Inst) {
		t.Error("a comparison and its jump are not told apart")
	}
	list := operands(compare.Inst)
	if len(list) != 2 || described(list[0]) != "loads [RIP+0x1000] 8" || described(list[1]) != "copies RAX" {
		t.Errorf("%+v", list)
	}
	call := assembled(t, "e8 00 00 00 00")
	call.Text = "call 0xffffffff81e00000 <__x86_indirect_thunk_r11>"
	if list := target(call); len(list) != 1 || list[0].reg != x86asm.R11 {
		t.Errorf("%+v", list)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("\xf3\x48\xab"))
	f.Fuzz(func(t *testing.T, code []byte) {
		in := read(gdb.Instruction{Code: code})
		writes(in.Inst)
		reaches(in.Inst)
		operands(in.Inst)
		for r := x86asm.RAX; r <= x86asm.R15; r++ {
			gives(in.Inst, r)
		}
	})
}

func TestSuspects(t *testing.T) {
	for _, tt := range []struct {
		kind splat.Kind
		line string
		want suspect
	}{
		{splat.List, "list_del corruption. prev->next should be ffff888003a5d020, but was 4141414141414141. " +
			"(prev=ffff888003a5d000)", suspect{Address: 0xffff888003a5d000, Size: 8, What: "prev->next"}},
		{splat.List, "list_add corruption. next->prev should be prev (ffffffff82a3f5c0), but was 0000000000000000. " +
			"(next=ffff888003a5d000).", suspect{Address: 0xffff888003a5d008, Size: 8, What: "next->prev"}},
		{splat.List, "list_del corruption, ffff888003a5d000->next is LIST_POISON1 (dead000000000100)",
			suspect{Address: 0xffff888003a5d000, Size: 8, What: "the entry's next"}},
		{splat.KASAN, "Write of size 8 at addr ffff888003a5d030 by task sh/73",
			suspect{Address: 0xffff888003a5d030, Size: 8}},
		{splat.KFENCE, "Use-after-free read at 0xffff888003a5d030 (in kfence-#12):",
			suspect{Address: 0xffff888003a5d030, Size: 1}},
		{splat.KCSAN, "write to 0xffff888003a5d030 of 4 bytes by task 73 on cpu 0:",
			suspect{Address: 0xffff888003a5d030, Size: 4}},
		{splat.Slab, "0xffff888003a5d030-0xffff888003a5d037 @offset=48. First byte 0x42 instead of 0x6b",
			suspect{Address: 0xffff888003a5d030, Size: 1, What: "the first byte that is wrong"}},
		{splat.Spinlock, " lock: planted_lock+0x0/0x40, .magic: dead4ead, .owner: <none>/-1, .owner_cpu: -1",
			suspect{Symbol: "planted_lock+0x0", Size: 4, What: "the lock"}},
		{splat.Spinlock, " lock: 0xffff888003a5d030, .magic: dead4ead, .owner: <none>/-1, .owner_cpu: -1",
			suspect{Address: 0xffff888003a5d030, Size: 4, What: "the lock"}},
	} {
		got := suspects(&splat.Report{Kind: tt.kind, Text: []string{"x", tt.line}})
		if len(got) != 1 || got[0] != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.line, got, tt.want)
		}
	}
	if got := suspects(&splat.Report{Kind: splat.Warning, Text: []string{"at addr ffff888003a5d030"}}); got != nil {
		t.Errorf("%+v", got)
	}
}

func TestTaken(t *testing.T) {
	log := `======================================================
WARNING: possible circular locking dependency detected
6.12.117 #1 Not tainted
------------------------------------------------------
sh/66 is trying to acquire lock:
ffffffff82a51c40 (lock_a){+.+.}-{4:4}, at: take_ba+0x2a/0x60

but task is already holding lock:
ffffffff82a51bc0 (&s->lock_b){+.+.}-{4:4}, at: take_ba+0x1e/0x60

which lock already depends on the new lock.

the existing dependency chain (in reverse order) is:

-> #1 (&s->lock_b){+.+.}-{4:4}:
       lock_acquire+0xd1/0x2f0
       __mutex_lock+0xb0/0xd90
       take_ab+0x2c/0x60
       planted_write+0x9a/0xd0

-> #0 (lock_a){+.+.}-{4:4}:
       __lock_acquire+0x1488/0x2140
       lock_acquire+0xd1/0x2f0
       __mutex_lock+0xb0/0xd90
       take_ba+0x2a/0x60

other info that might help us debug this:

1 lock held by sh/66:
 #0: ffffffff82a51bc0 (&s->lock_b){+.+.}-{4:4}, at: take_ba+0x1e/0x60

stack backtrace:
CPU: 0 UID: 0 PID: 66 Comm: sh Not tainted 6.12.117 #1
Call Trace:
 <TASK>
 dump_stack_lvl+0x6b/0xa0
 print_circular_bug+0x1b8/0x200
 check_noncircular+0x1d4/0x240
 __lock_acquire+0x1488/0x2140
 lock_acquire+0xd1/0x2f0
 __mutex_lock+0xb0/0xd90
 take_ba+0x2a/0x60
 planted_write+0x9a/0xd0
 </TASK>
`
	var r splat.Reader
	if _, err := r.Write([]byte(log)); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil || len(r.Reports()) != 1 {
		t.Fatalf("%v, %+v", err, r.Reports())
	}
	var got []string
	for _, l := range taken(r.Reports()[0]) {
		got = append(got, l.name+" "+l.frame.String())
	}
	want := []string{"&s->lock_b take_ba+0x1e/0x60", "&s->lock_b take_ab+0x2c/0x60"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWildOf(t *testing.T) {
	for held, want := range map[uint64]x86asm.Reg{
		0: x86asm.RAX, 0x2f62696e: x86asm.RAX, 0xffff888003a40000: x86asm.RDX,
		0xdffffc0000000000: x86asm.RDX, // the shadow of memory: the other one is an eighth of what was reached for
	} {
		if got := wildOf(x86asm.RAX, x86asm.RDX, held); got != want {
			t.Errorf("%#x in the base: %v, want %v", held, got, want)
		}
		if got := wildOf(x86asm.RAX, 0, held); got != x86asm.RAX {
			t.Errorf("%#x in the base alone: %v", held, got)
		}
	}
}

func TestFaultAddress(t *testing.T) {
	const gpf = "Oops: general protection fault, probably for non-canonical address 0x4141414141414151: 0000 "
	for line, want := range map[string]uint64{
		gpf: 0x4141414141414151,
		"BUG: kernel NULL pointer dereference, address: 0000000000000018":           0x18,
		"BUG: unable to handle page fault for address: ffffc90000200000":            0xffffc90000200000,
		"BUG: unable to handle kernel NULL pointer dereference at 0000000000000018": 0x18,
		"general protection fault, maybe for address 0xffff888003a5d030: 0000 [#1]": 0xffff888003a5d030,
		"general protection fault: 0000 [#1]":                                       0,
	} {
		if got, ok := fault(&splat.Report{Text: []string{line}}); got != want || ok != (want != 0) {
			t.Errorf("%s: %#x, %v", line, got, ok)
		}
	}
}

// What was found is taken up again for the same recording and question, and for no other.
func TestKept(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, recording.Home, "a"), 0o700); err != nil {
		t.Fatal(err)
	}
	record := `{"format":1,"arch":"amd64","memory":"1G","shift":5,"end":{"how":"panic","icount":9},"parts":{}}`
	if err := os.WriteFile(filepath.Join(dir, recording.Home, "a", "record.json"), []byte(record), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := recording.Open(t.Context(), dir, "a")
	if err != nil {
		t.Fatal(err)
	}
	k, err := load(r, "")
	if err != nil || k.Begun {
		t.Fatalf("%+v, %v", k, err)
	}
	k.Begun, k.Steps = true, []Step{{Kind: Written, What: "it"}}
	k.Queue = []question{{Icount: 7, What: "that", Reg: x86asm.RAX}}
	k.open()
	if err := k.save(r); err != nil {
		t.Fatal(err)
	}
	again, err := load(r, "")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(k, again); diff != "" || again.Open[0] != "where that came from" || again.Done() {
		t.Error(diff)
	}
	if other, err := load(r, "jiffies"); err != nil || other.Begun {
		t.Errorf("%+v, %v", other, err)
	}
	r.Parts["bzImage"] = recording.Part{Digest: "0"}
	if other, err := load(r, ""); err != nil || other.Begun {
		t.Errorf("of another recording: %+v, %v", other, err)
	}
}

func TestPage(t *testing.T) {
	pid := 73
	a := &Answer{Version: 1, Recording: "a", Command: []string{"sh", "-c", "<b>"}, Open: []string{"that"},
		Report: &splat.Report{Title: "Oops in f <script>", Task: "sh", PID: &pid},
		Steps: []Step{{Kind: Written, What: "it was written here", Icount: 7, Address: "0xffffffff82000000",
			Symbol: "victim", Was: "0x0", Value: "0x41", Task: "sh (pid 73)", Instruction: "mov %rax,(%rdi)",
			Frames: []Frame{{}, {Function: "list_del", File: "include/linux/list.h", Line: 237},
				{Function: "f", File: "kernel/f.c", Line: 12,
					Locals: []gdb.Local{{Name: "n", Value: `"<i>"`}}}}}}}
	var b bytes.Buffer
	if err := a.HTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, bad := range []string{"<script>", "<i>", "<b>", "http:", "https:", "src="} {
		if strings.Contains(page, bad) {
			t.Errorf("%s is in the page", bad)
		}
	}
	text := strings.Join(a.Lines(), "\n")
	for _, want := range []string{"list_del at include/linux/list.h:237, in f at kernel/f.c:12",
		"0xffffffff82000000 (victim) got 0x41 over 0x0",
		"instruction 7, after 0.000000 s, in sh (pid 73)"} {
		if !strings.Contains(text, want) || !strings.Contains(page, want) {
			t.Errorf("%q is not in both of\n%s\n%s", want, text, page)
		}
	}
}
