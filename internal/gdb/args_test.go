package gdb

import (
	"slices"
	"strings"
	"testing"
)

func TestSessionArgs(t *testing.T) {
	files := Files{Vmlinux: "/o/vmlinux", Scripts: []string{"/o/vmlinux-gdb.py", "/o/scripts/gdb"}, Index: "/i"}
	host := func(s Session) Session {
		s.Files, s.Socket, s.Settings = files, "/r/gdb", true
		return s
	}
	box := func(s Session) Session {
		s.Files, s.Socket, s.HoldKeys = files, "/r/gdb", true
		return s
	}
	for _, tt := range []struct {
		name     string
		s        Session
		has, not []string
		commands string // what gdb does once it is connected, in order
	}{
		{"halted", host(Session{}), []string{"/o/vmlinux"}, []string{"-nx", "-batch"}, ""},
		{"the user's own settings are not there", box(Session{}), []string{"-nx", "/o/vmlinux"}, nil, ""},
		{"keys are held back", box(Session{}), []string{"--block-signal=INT", takeKeys}, nil, ""},
		{"nobody would take them", host(Session{}), []string{"gdb"}, []string{"--block-signal=INT", takeKeys}, ""},
		{"an index and scripts", host(Session{}), []string{"set index-cache directory /i",
			"add-auto-load-safe-path /o/vmlinux-gdb.py:/o/scripts/gdb"}, nil, ""},
		{"running", host(Session{Running: true}), nil, nil, "continue"},
		{"breakpoints", host(Session{Breaks: []string{"a", "f.c:1"}}), nil, nil, "hbreak a;hbreak f.c:1;continue"},
		{"too many for the processor", box(Session{Breaks: []string{"a"}, Unpacked: true}), nil, nil,
			"thbreak start_kernel;continue;break a;continue"},
		{"a batch", host(Session{Breaks: []string{"a"}, Commands: []string{"bt"}, Batch: true}), []string{"-batch"},
			nil,
			"hbreak a;continue;bt"},
		{"sources of this machine", host(Session{Source: "/o/kimg.gdb"}), []string{"source /o/kimg.gdb"}, nil, ""},
	} {
		args := tt.s.Args()
		for _, a := range tt.has {
			if !slices.Contains(args, a) {
				t.Errorf("%s: %q lacks %q", tt.name, args, a)
			}
		}
		for _, a := range tt.not {
			if slices.Contains(args, a) {
				t.Errorf("%s: %q has %q", tt.name, args, a)
			}
		}
		at := slices.Index(args, "target remote /r/gdb")
		if at < 0 {
			t.Fatalf("%s: gdb is not connected: %q", tt.name, args)
		}
		var commands []string
		for i := at + 1; i+1 < len(args); i += 2 {
			if args[i] != "-ex" {
				t.Errorf("%s: %q is no -ex", tt.name, args[i])
			}
			commands = append(commands, args[i+1])
		}
		if got := strings.Join(commands, ";"); got != tt.commands {
			t.Errorf("%s: gdb gets %q, want %q", tt.name, got, tt.commands)
		}
	}
}
