//go:build !linux

package outdir

import "syscall"

func changeTime(*syscall.Stat_t) int64 { return 0 }
