// Package inode tells whether a file is the one that it was, without reading it: begin with [Of].
package inode

import (
	"io/fs"
	"syscall"

	"github.com/djherbis/times"
)

// ID is what a file system itself says of a file.
type ID struct {
	Device, Inode uint64
	Changed       int64 // when the inode last changed, in nanoseconds since 1970: no program can set it
}

// Of is the ID of a file that was looked at; zero where its file system has none.
func Of(info fs.FileInfo) ID {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ID{}
	}
	id := ID{Device: uint64(s.Dev), Inode: s.Ino}
	if t := times.Get(info); t.HasChangeTime() {
		id.Changed = t.ChangeTime().UnixNano()
	}
	return id
}
