//go:build linux && (amd64 || arm64)

package owners

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Answered calls beside the kernel's own: what one costs the program that makes it.
func BenchmarkAnswers(b *testing.B) {
	for _, op := range []string{"stat", "stat-relative", "stat-known", "fstat", "chown", "chroot"} {
		for _, how := range []string{"kernel", "answered"} {
			if how == "kernel" && op == "stat-known" {
				continue
			}
			b.Run(op+"/"+how, func(b *testing.B) {
				dir := b.TempDir()
				var out []byte
				before := cpuTime()
				if how == "kernel" {
					var err error
					if out, err = programCmd(dir, "bench", op, strconv.Itoa(b.N)).CombinedOutput(); err != nil {
						b.Fatalf("%v: %s", err, out)
					}
				} else {
					out = []byte(run(b, NewBook(), dir, "bench", op, strconv.Itoa(b.N)))
				}
				var ns, cpu int64
				if _, err := fmt.Sscan(string(out), &ns, &cpu); err != nil {
					b.Fatalf("%v: %s", err, out)
				}
				b.ReportMetric(float64(ns)/float64(b.N), "ns/op")
				b.ReportMetric(float64(cpu+cpuTime()-before)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

func benchProgram(args []string) {
	n := must1(strconv.Atoi(args[1]))
	touch("file", 0o644)
	name := must1(os.Getwd()) + "/file"
	fd := must1(unix.Open("file", unix.O_RDONLY|unix.O_CLOEXEC, 0))
	var s unix.Stat_t
	do := func() error { return unix.Lstat(name, &s) }
	switch args[0] {
	case "stat-relative":
		do = func() error { return unix.Lstat("file", &s) }
	case "stat-known":
		must0(unix.Chown("file", 1, 1))
	case "fstat":
		do = func() error { return unix.Fstat(fd, &s) }
	case "chown":
		do = func() error { return unix.Chown(name, -1, -1) }
	case "chroot":
		if os.Geteuid() == 0 {
			must0(unix.Chroot("."))
		}
		name = "/file"
	}
	begin, before := time.Now(), cpuTime()
	for range n {
		must0(do())
	}
	fmt.Println(time.Since(begin).Nanoseconds(), cpuTime()-before)
}

// cpuTime is what this process has used, in nanoseconds.
func cpuTime() int64 {
	var u unix.Rusage
	must0(unix.Getrusage(unix.RUSAGE_SELF, &u))
	return u.Utime.Nano() + u.Stime.Nano()
}
