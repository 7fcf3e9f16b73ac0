package container

import (
	"os"
	"strconv"
	"strings"
	"sync"
)

// The labels on what kimg makes.
const (
	labelKimg    = "kimg"         // "1" on everything
	labelOwner   = "kimg.owner"   // the process that will remove it: owner's text
	labelDurable = "kimg.durable" // "1" on volumes that outlive their process
)

// owner names a process among all that may share an engine. A host's name is not enough: two laptops may share a
// remote engine and a name, and two containers on one machine have process numbers of their own.
type owner struct {
	host  string
	boot  string // this boot of the kernel; empty where it is not known
	space string // the space its process number counts in; empty where there is one
	pid   int
	start string // when the process began, in the kernel's count; empty where it is not known
}

// self is this process.
var self = sync.OnceValue(func() owner {
	host, _ := os.Hostname()
	o := owner{host: strings.ReplaceAll(host, ":", "-"), pid: os.Getpid()}
	o.boot, o.space = kernelIDs()
	o.start, _ = processStart(o.pid)
	return o
})

func (o owner) String() string {
	return strings.Join([]string{o.host, o.boot, o.space, strconv.Itoa(o.pid), o.start}, ":")
}

func parseOwner(s string) (owner, bool) {
	f := strings.Split(s, ":")
	if len(f) != 5 {
		return owner{}, false
	}
	pid, err := strconv.Atoi(f[3])
	return owner{host: f[0], boot: f[1], space: f[2], pid: pid, start: f[4]}, err == nil && pid > 0
}

// gone reports whether o is a process that has ended, as far as me can see. local says
// that the engine is on this machine. When in doubt the answer is no.
func (o owner) gone(me owner, local bool, alive func(pid int, start string) bool) bool {
	if o.host != me.host {
		return false
	}
	if o.boot != me.boot {
		return local // an engine that does not leave its machine: o ran before the last boot
	}
	return o.space == me.space && !alive(o.pid, o.start)
}
