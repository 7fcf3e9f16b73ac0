//go:build linux

package owners

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

func oldStats(name string) map[string]func(*unix.Stat_t) error {
	old := func(nr uintptr) func(s *unix.Stat_t) error {
		return func(s *unix.Stat_t) error {
			p, err := unix.BytePtrFromString(name)
			if err != nil {
				return err
			}
			return raw(nr, uintptr(unsafe.Pointer(p)), uintptr(unsafe.Pointer(s)))
		}
	}
	m := map[string]func(*unix.Stat_t) error{"lstat": old(unix.SYS_LSTAT)}
	var s unix.Stat_t
	if unix.Lstat(name, &s) == nil && s.Mode&unix.S_IFMT != unix.S_IFLNK {
		m["stat"] = old(unix.SYS_STAT)
	}
	return m
}
