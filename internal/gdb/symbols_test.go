package gdb

import (
	"strings"
	"testing"
)

func TestFirstStop(t *testing.T) {
	kernel := &Symbols{Entry: 0x1000000}
	for _, tt := range []struct {
		breaks string
		want   uint64
	}{
		{"", 0}, // it stays halted
		{"do_sys_open", 0x1000000},
		{"fs/open.c:1435 vfs_read", 0x1000000},
		{"vfs_read *0xfff0", 0}, // the firmware's
	} {
		if got := kernel.FirstStop(strings.Fields(tt.breaks)); got != tt.want {
			t.Errorf("%q: %#x, want %#x", tt.breaks, got, tt.want)
		}
	}
}
