package vm

import (
	"strings"
	"testing"

	"github.com/kimg/kimg/internal/qemu"
)

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
