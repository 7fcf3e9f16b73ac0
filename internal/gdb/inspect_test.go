package gdb

import "testing"

func TestFrameOf(t *testing.T) {
	for _, tt := range []struct {
		frame miTuple
		root  string
		want  Frame
	}{
		{miTuple{"func": "do_sys_open", "fullname": "/kimg/src/fs/open.c", "line": "1049"}, "/kimg/src/",
			Frame{"do_sys_open", "fs/open.c", 1049}},
		{miTuple{"func": "f", "fullname": "/kimg/src/fs/open.c", "line": "1049"}, "",
			Frame{"f", "/kimg/src/fs/open.c", 1049}},
		{miTuple{"func": "x64_sys_call", "file": "./arch/x86/syscalls_64.h",
			"fullname": "/kimg/obj/./arch/x86/syscalls_64.h", "line": "1"},
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
