package checks

import (
	"runtime"
	"testing"

	"github.com/kimg/kimg/internal/units"
)

func TestJobs(t *testing.T) {
	const gib = units.Size(1 << 30)
	guests := func(cpus int, memory units.Size) []Check {
		list := list("a", "b", "c", "d", "e")
		list[3].Guest.CPUs, list[3].Guest.Memory = cpus, memory
		return list
	}
	for _, tt := range []struct {
		list []Check
		room Room
		want int
	}{
		{guests(0, 0), Room{2, 16 * gib}, 2},
		{guests(0, 0), Room{16, 64 * gib}, 5},
		{guests(0, 0), Room{16, 4 * gib}, 3},
		{guests(0, 0), Room{16, gib}, 1},
		{guests(0, 0), Room{16, 0}, 5},
		{guests(4, 0), Room{16, 0}, 4},
		{guests(4, 0), Room{2, 0}, 1},
		{guests(0, 8*gib), Room{16, 32 * gib}, 3},
		{nil, Room{16, 32 * gib}, 1},
	} {
		if got := Jobs(tt.list, tt.room); got != tt.want {
			t.Errorf("%+v: %d, want %d", tt.room, got, tt.want)
		}
	}
	if room := ThisRoom(); room.CPUs < 1 || runtime.GOOS == "linux" && room.Memory < 1<<20 {
		t.Errorf("%+v", room)
	}
}
