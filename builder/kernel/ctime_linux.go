package kernel

import "syscall"

// changed is when a file's inode last changed, in nanoseconds since 1970. Unlike
// the time of its content, nobody can set it back.
func changed(s *syscall.Stat_t) int64 { return s.Ctim.Nano() }
