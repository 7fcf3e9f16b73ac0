package vm

import (
	"bytes"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCheckBreak(t *testing.T) {
	for at, good := range map[string]bool{
		"do_sys_open": true, "foo.isra.0": true, "fs/open.c:1049": true, "open.c:do_sys_open": true,
		"*0xffffffff81000000": true, "./init/main.c:1": true,
		"": false, "a b": false, "x if 1": false, "x;shell id": false, "-p 1": false, "a\nb": false, "1": false,
		"*0x": false, "fs/open.c:": false, "'x'": false,
	} {
		if err := CheckBreak(at); (err == nil) != good {
			t.Errorf("%q: %v", at, err)
		}
	}
}

func TestNear(t *testing.T) {
	s := &symbols{functions: []string{"do_sys_openat2", "do_sys_open", "__x64_sys_open", "__x64_sys_openat",
		"schedule", "schedule_timeout", "vfs_read", "vfs_write", "vfs_read"}}
	for at, want := range map[string][]string{
		"do_sys_openat": {"do_sys_openat2", "do_sys_open"},
		"sys_open":      {"do_sys_open", "__x64_sys_open", "do_sys_openat2", "__x64_sys_openat"},
		"shcedule":      {"schedule"},
		"fs.c:vfs_raed": {"vfs_read"},
		"write":         {"vfs_write"},
		"writ":          nil, // as many names have it somewhere
		"zzz":           nil,
		"fs/open.c:12":  nil,
		"*0x12":         nil,
	} {
		if diff := cmp.Diff(want, s.near(at)); diff != "" {
			t.Errorf("%s: -want +got\n%s", at, diff)
		}
	}
}

func TestFrameOf(t *testing.T) {
	for _, tt := range []struct {
		frame miTuple
		root  string
		want  Frame
	}{
		{miTuple{"func": "do_sys_open", "fullname": "/kimg/src/fs/open.c", "line": "1049"}, "/kimg/src/", Frame{"do_sys_open", "fs/open.c", 1049}},
		{miTuple{"func": "f", "fullname": "/kimg/src/fs/open.c", "line": "1049"}, "", Frame{"f", "/kimg/src/fs/open.c", 1049}},
		{miTuple{"func": "x64_sys_call", "file": "./arch/x86/syscalls_64.h", "fullname": "/kimg/obj/./arch/x86/syscalls_64.h", "line": "1"},
			"/kimg/src/", Frame{"x64_sys_call", "arch/x86/syscalls_64.h", 1}},
		{miTuple{"addr": "0x1", "func": "??"}, "/kimg/src/", Frame{}},
		{miTuple{"func": "evil\x1b[2Jname"}, "", Frame{Function: "evilname"}},
	} {
		if got := frameOf(tt.frame, tt.root); got != tt.want {
			t.Errorf("%v: %+v, want %+v", tt.frame, got, tt.want)
		}
	}
}

func TestTaskName(t *testing.T) {
	for _, tt := range []struct{ comm, pid, want string }{
		{`"cat"`, "312", "cat (pid 312)"},
		{`"cat", '\\000' <repeats 12 times>`, "312", "cat (pid 312)"},
		{`"swapper/0"`, "0", "swapper/0 (pid 0)"},
		{`""`, "1", ""},
		{"cat", "1", ""},
		{`"cat`, "1", ""},
		{"", "1", ""},
		{`"cat"`, "<optimized out>", ""},
	} {
		if got := taskName(tt.comm, tt.pid); got != tt.want {
			t.Errorf("%s, %s: %q, want %q", tt.comm, tt.pid, got, tt.want)
		}
	}
}

func TestCheckExpression(t *testing.T) {
	for expr, good := range map[string]bool{
		"jiffies": true, "/x $rip": true, `$lx_current().comm`: true, "*(struct page *)0": true,
		"": false, " \t": false, "a\nshell id": false, `$_shell("id")`: false, "1+$_shell_exitcode": false,
	} {
		if err := CheckExpression(expr); (err == nil) != good {
			t.Errorf("%q: %v", expr, err)
		}
	}
}

func TestHitBy(t *testing.T) {
	b := breakpoint{Number: "2"}
	for _, tt := range []struct {
		stopped miTuple
		says    string
	}{
		{miTuple{"reason": "breakpoint-hit", "bkptno": "2"}, ""},
		{miTuple{"reason": "breakpoint-hit", "bkptno": "1"}, "breakpoint-hit"},
		{miTuple{"reason": "signal-received", "signal-meaning": "Interrupt"}, "signal-received Interrupt"},
	} {
		err := b.hitBy(tt.stopped)
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%v: %v", tt.stopped, err)
		}
	}
}

// The script's own line is not the command's, wherever the guest cuts its words.
func TestGate(t *testing.T) {
	for _, said := range [][]string{{"312\n", "one\ntwo\n"}, {"312\none\ntwo\n"}, {"", "31", "2\none\n", "two\n"}} {
		var out bytes.Buffer
		g := newGate(strings.NewReader("input"), &out)
		for _, s := range said {
			if n, err := g.out.Write([]byte(s)); n != len(s) || err != nil {
				t.Fatalf("%q: %d, %v", s, n, err)
			}
		}
		<-g.reached
		if out.String() != "one\ntwo\n" || g.out.pid != 312 {
			t.Errorf("%q became %q of process %d", said, out.String(), g.out.pid)
		}
		read := make(chan string)
		go func() {
			b, _ := io.ReadAll(g)
			read <- string(b)
		}()
		select {
		case early := <-read:
			t.Fatalf("%q came through a gate that is shut", early)
		case <-time.After(10 * time.Millisecond):
		}
		g.open()
		if got := <-read; got != "\ninput" {
			t.Errorf("the script reads %q", got)
		}
	}
}

func TestGateThatStaysShut(t *testing.T) {
	g := newGate(nil, nil)
	g.close()
	g.close()
	if b, err := io.ReadAll(g); len(b) > 0 || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

func TestGateOfAHostileGuest(t *testing.T) {
	g := newGate(nil, nil)
	for range 1000 {
		if _, err := g.out.Write(bytes.Repeat([]byte("9"), 1<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.out.Write([]byte("\n")); err != nil || g.out.pid != 0 {
		t.Errorf("process %d, %v", g.out.pid, err)
	}
}

// The gate is the script's own: it is tried with this machine's shell.
func TestGatedScript(t *testing.T) {
	var out, errs bytes.Buffer
	g := newGate(strings.NewReader("input"), &out)
	cmd := exec.Command("sh", "-c", gated([]string{"sh", "-ec", "cat; echo \"it's $0\" >&2; exit 3", "me"}))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = g, &g.out, &errs
	if err := cmd.Start(); err != nil {
		t.Skip("no shell here")
	}
	<-g.reached
	if g.out.pid != cmd.Process.Pid {
		t.Errorf("it says it is process %d, not %d", g.out.pid, cmd.Process.Pid)
	}
	g.open()
	err := cmd.Wait()
	if cmd.ProcessState.ExitCode() != 3 || out.String() != "input" || errs.String() != "it's me\n" {
		t.Errorf("%v, stdout %q, stderr %q", err, out.String(), errs.String())
	}
}
