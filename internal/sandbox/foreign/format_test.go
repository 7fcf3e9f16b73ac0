package foreign

import (
	"strings"
	"testing"
)

func TestParseFormat(t *testing.T) {
	f, err := parseFormat(`:kimg:M::\x7fELF\x02:\xff\xff\xff\xff\xfe:/usr/bin/qemu:PF`)
	if err != nil || f.interpreter != "/usr/bin/qemu" {
		t.Fatalf("%+v, %v", f, err)
	}
	for head, want := range map[string]bool{
		"\x7fELF\x02": true, "\x7fELF\x03 and more": true, "\x7fELF\x04": false, "\x7fELF": false, "": false,
	} {
		if f.match([]byte(head)) != want {
			t.Errorf("%q: not %v", head, want)
		}
	}
	for _, bad := range []string{
		"", ":k:M::a:a:/q", ":k:E::a:a:/q:PF", ":k:M:4:a:a:/q:PF", ":k:M::a:a:/q:PFC", ":k:M::a:ab:/q:PF",
		":k:M::::/q:PF", `:k:M::\x7:a:/q:PF`, ":k:M::a:a:q:PF", "k:M::a:a:/q:PF:",
	} {
		if f, err := parseFormat(bad); err == nil {
			t.Errorf("%q is %+v", bad, f)
		}
	}
}

// What the kernel makes of the first line; see load_script in fs/binfmt_script.c.
func TestScript(t *testing.T) {
	long := "/" + strings.Repeat("x", headSize)
	for _, c := range []struct {
		head, interpreter, argument string
		ok                          bool
	}{
		{"#!/bin/sh\necho", "/bin/sh", "", true},
		{"#!/bin/sh", "/bin/sh", "", true},
		{"#! \t/bin/sh \t -e  -u \t\n", "/bin/sh", "-e  -u", true},
		{"#!sh\n", "sh", "", true},
		{"#!/bin/sh\x00-e\n", "/bin/sh", "", true},
		{"#!/bin/sh -e\x00u\n", "/bin/sh", "-e", true},
		{"#!/bin/sh\r\n", "/bin/sh\r", "", true},
		{"#!/bin/sh " + long, "/bin/sh", long[:headSize-len("#!/bin/sh ")], true},
		{"#!" + long, "", "", false},
		{"#!" + long[:headSize-3] + "\n", long[:headSize-3], "", true},
		{"#!\n/bin/sh", "", "", false},
		{"#! \t\n", "", "", false},
		{"#!", "", "", false},
		{"", "", "", false},
		{"\x7fELF", "", "", false},
	} {
		if i, a, ok := script([]byte(c.head)); i != c.interpreter || a != c.argument || ok != c.ok {
			t.Errorf("%.40q: %.40q, %.40q, %v", c.head, i, a, ok)
		}
	}
}
