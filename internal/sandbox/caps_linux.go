package sandbox

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// capNames are the capabilities by number, as in linux/capability.h.
var capNames = strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
	LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
	SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
	AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF
	CHECKPOINT_RESTORE`)

// capSet returns the capabilities of names as bits.
func capSet(names []string) (uint64, error) {
	var set uint64
	for _, n := range names {
		i := slices.Index(capNames, n)
		if i < 0 {
			return 0, fmt.Errorf("there is no capability %q", n)
		}
		set |= 1 << i
	}
	return set, nil
}

// allCaps returns the numbers of the capabilities that the running kernel has.
func allCaps() ([]uintptr, error) {
	b, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		return nil, err
	}
	last, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 6)
	if err != nil {
		return nil, fmt.Errorf("read cap_last_cap: %w", err)
	}
	var all []uintptr
	for c := range uintptr(last + 1) {
		all = append(all, c)
	}
	return all, nil
}
