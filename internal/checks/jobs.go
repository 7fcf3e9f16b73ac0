package checks

import (
	"bytes"
	"cmp"
	"fmt"
	"runtime"

	"github.com/kimg/kimg/internal/reading"
	"github.com/kimg/kimg/internal/units"
)

// Room is what a machine has for guests.
type Room struct {
	CPUs   int
	Memory units.Size // 0: not known
}

// ThisRoom is this machine's: what nothing else takes up of its memory.
func ThisRoom() Room {
	room := Room{CPUs: runtime.NumCPU()}
	b, _ := reading.Small("/proc/meminfo", 64<<10) // proc(5); elsewhere it is not known
	for line := range bytes.Lines(b) {
		var kib units.Size
		if _, err := fmt.Sscanf(string(line), "MemAvailable: %d kB", &kib); err == nil {
			room.Memory = kib << 10
		}
	}
	return room
}

// Jobs is how many guests of the checks there is room for at once: each processor of a guest needs one, and a quarter
// of the memory is left to others.
func Jobs(list []Check, room Room) int {
	cpus, memory := 1, units.Size(1)
	for _, c := range list {
		cpus, memory = max(cpus, c.Guest.CPUs), max(memory, cmp.Or(c.Guest.Memory, 1<<30))
	}
	jobs := room.CPUs / cpus
	if room.Memory > 0 {
		jobs = min(jobs, int(room.Memory/4*3/memory))
	}
	return max(1, min(jobs, len(list)))
}
