package vm

import (
	"slices"
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/qemu"
)

func TestPersonArgs(t *testing.T) {
	host := &Site{Dir: "/o", Run: "/r", Accel: qemu.TCG}
	box := &Site{Dir: "/out", Run: "/run/kimg", Accel: qemu.KVM, Isolated: true}
	for _, tt := range []struct {
		name     string
		site     *Site
		d        Debugging
		unpacked bool
		mapped   bool
		has, not []string
		commands string // what gdb does once it is connected, in order
	}{
		{"halted", host, Debugging{}, false, false, []string{"/o/vmlinux"}, []string{"-nx", "-batch"}, ""},
		{"the person's own settings are not there", box, Debugging{}, false, false, []string{"-nx", "/out/vmlinux"}, nil, ""},
		{"keys are held back", box, Debugging{}, false, false, []string{"--block-signal=INT", takeKeys}, nil, ""},
		{"nobody would take them", host, Debugging{}, false, false, []string{"gdb"}, []string{"--block-signal=INT", takeKeys}, ""},
		{"running", host, Debugging{Running: true}, false, false, nil, nil, "continue"},
		{"breakpoints", host, Debugging{Breaks: []string{"a", "f.c:1"}}, false, false, nil, nil, "hbreak a;hbreak f.c:1;continue"},
		{"too many for the processor", box, Debugging{Breaks: []string{"a"}}, true, false, nil, nil, "thbreak start_kernel;continue;break a;continue"},
		{"a batch", host, Debugging{Breaks: []string{"a"}, Commands: []string{"bt"}, Batch: true}, false, false, []string{"-batch"}, nil, "hbreak a;continue;bt"},
		{"sources of this machine", host, Debugging{}, false, true, []string{"source /o/kimg.gdb"}, nil, ""},
	} {
		args := personArgs(tt.site, tt.d, tt.unpacked, tt.mapped)
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
		at := slices.Index(args, "target remote "+tt.site.Socket("gdb"))
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
			t.Errorf("%s: gdb is told %q, want %q", tt.name, got, tt.commands)
		}
	}
}

func TestDebugNotices(t *testing.T) {
	for _, tt := range []struct {
		config Config
		want   []string
	}{
		{Config{"GDB_SCRIPTS": "y"}, nil},
		{Config{"GDB_SCRIPTS": "y", "RANDOMIZE_BASE": "y"}, []string{"nokaslr"}},
		{Config{}, []string{"GDB_SCRIPTS=y"}},
		{Config{"DEBUG_INFO_REDUCED": "y"}, []string{"GDB_SCRIPTS=y", "DEBUG_INFO_REDUCED=n"}},
	} {
		got := debugNotices(tt.config)
		if len(got) != len(tt.want) {
			t.Errorf("%v: %q", tt.config, got)
			continue
		}
		for i, want := range tt.want {
			if !strings.Contains(got[i], want) {
				t.Errorf("%v: %q, want %q in it", tt.config, got[i], want)
			}
		}
	}
}

func TestPanicsAreKept(t *testing.T) {
	line := Cmdline{Bus: qemu.VirtioBus, Extra: "quiet"}.String()
	devices := []qemu.Device{qemu.CPU{Count: 1}, qemu.Kernel{Image: "k", Append: line}}
	kept := keepPanics(devices)[1].(qemu.Kernel).Append
	if strings.Contains(kept, "panic=") || !strings.Contains(kept, "nokaslr no_timer_check quiet") {
		t.Errorf("command line %q", kept)
	}
	if devices[1].(qemu.Kernel).Append != line {
		t.Error("the devices given were changed")
	}
}
