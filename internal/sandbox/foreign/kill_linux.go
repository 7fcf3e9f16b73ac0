//go:build amd64 || arm64

package foreign

import (
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kimg/kimg/internal/sandbox/watch"
)

// killAll does kill(-1, sig) for a process: to all that it may send signals to, but itself, pid 1, and the tracer,
// which would take all others with it.
func (t *tracer) killAll(pid int, r *registers) error {
	sig := int32(*r.argument(1))
	const last = 64
	if sig < 0 || sig > last {
		return nil // which the kernel says
	}
	caller, err := t.Status(pid)
	if err != nil {
		return err
	}
	tgid, err := caller.Number("Tgid", 10)
	if err != nil {
		return err
	}
	dir, err := unix.Openat(t.Proc, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(dir), "/proc")
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	found := false
	for _, name := range names {
		other, err := strconv.Atoi(name)
		if err != nil || other == 1 || other == int(tgid) || other == os.Getpid() {
			continue
		}
		if s, err := t.Status(other); err == nil { // else it has ended
			found = true
			if maySignal(caller, s) {
				_ = unix.Kill(other, unix.Signal(sig)) // ESRCH
			}
		}
	}
	// What is left to the kernel is to return it: 0 for the caller's own group, or that there is nobody.
	*r.argument(0), *r.argument(1) = 0, 0
	if !found {
		*r.argument(0) = math.MaxInt32 // no pid is as high
	}
	return r.set(pid)
}

// maySignal reports whether a process may send another one a signal (kill_ok_by_cred).
func maySignal(from, to watch.Status) bool {
	if can, err := from.Has(unix.CAP_KILL); err != nil || can {
		return can
	}
	const own, effective, saved = 0, 1, 2
	f, t := strings.Fields(from.Line("Uid")), strings.Fields(to.Line("Uid"))
	if len(f) <= saved || len(t) <= saved {
		return false
	}
	return slices.Contains([]string{t[own], t[saved]}, f[own]) ||
		slices.Contains([]string{t[own], t[saved]}, f[effective])
}
