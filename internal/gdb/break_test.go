package gdb

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

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
	s := &Symbols{Functions: []string{"do_sys_openat2", "do_sys_open", "__x64_sys_open", "__x64_sys_openat",
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
		if diff := cmp.Diff(want, s.Near(at)); diff != "" {
			t.Errorf("%s: -want +got\n%s", at, diff)
		}
	}
}

// A gdb that could not open vmlinux knows nothing of the kernel, and is not taken for the kernel's word.
func TestFindWithoutSymbols(t *testing.T) {
	for msg, unknown := range map[string]bool{
		`No symbol table is loaded.  Use the \"file\" command.`: false,
		`Function \"nosuch\" not defined.`:                      true,
	} {
		d, err := Start(func(in io.Reader, out, _ io.Writer) (func() error, error) {
			go func() {
				for lines := bufio.NewScanner(in); lines.Scan(); {
					token, _, _ := strings.Cut(lines.Text(), "-")
					fmt.Fprintf(out, "%s^error,msg=\"%s\"\n", token, msg)
				}
			}()
			return func() error { <-t.Context().Done(); return nil }, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = d.Find(t.Context(), &Symbols{}, "nosuch")
		var none *NoBreakError
		if err == nil || errors.As(err, &none) != unknown {
			t.Errorf("%s: %T %v", msg, err, err)
		}
	}
}

func TestHitBy(t *testing.T) {
	b := Breakpoint{number: "2"}
	for _, tt := range []struct {
		stop Stop
		says string
	}{
		{Stop{reason: "breakpoint-hit", breakpoint: "2"}, ""},
		{Stop{reason: "breakpoint-hit", breakpoint: "1"}, "breakpoint-hit"},
		{Stop{reason: "signal-received", signal: "Interrupt"}, "signal-received Interrupt"},
	} {
		err := b.HitBy(&tt.stop)
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%v: %v", tt.stop, err)
		}
	}
}
