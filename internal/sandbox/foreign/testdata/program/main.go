// Program is what the tests of package foreign run. Called "emulator", or a name that ends so, it is an emulator that
// prints how it was called, and then does what the emulated program's arguments say, as do other names at once.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The main goroutine keeps the first thread.
func init() { runtime.LockOSThread() }

func main() {
	args := os.Args
	if strings.HasSuffix(args[0], "emulator") {
		if len(args) < 4 || args[1] != "-0" {
			fail("called as %q", args)
		}
		say(args[1:])
		// What follows "do" is for the program, whatever a script put before it.
		i := slices.Index(args, "do")
		if i < 0 {
			return
		}
		args = args[i:]
	}
	if len(args) > 2 {
		do(args[1], args[2:])
	}
}

// say prints arguments, with a few of many.
func say(args []string) {
	if n := len(args); n > 20 {
		fmt.Printf("%d: %.40q %.40q\n", n, args[:5], args[n-1:])
		return
	}
	fmt.Printf("%q\n", args)
}

func fail(format string, args ...any) {
	fmt.Printf(format+"\n", args...)
	os.Exit(99)
}

func do(what string, args []string) {
	switch what {
	case "exit":
		os.Exit(number(args[0]))
	case "exec":
		fail("exec: %v", syscall.Exec(args[0], args, os.Environ()))
	case "execat": // DIR NAME FLAGS ARGV0...: execveat
		execat(args[0], args[1], number(args[2]), args[3:])
	case "noargs": // PATH: an execve without any argument
		name, _ := syscall.BytePtrFromString(args[0])
		_, _, err := syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(name)), 0, 0)
		fail("exec: %v", err)
	case "thread": // exec in another thread than the first
		done := make(chan bool)
		go func() {
			runtime.LockOSThread()
			if unix.Gettid() == unix.Getpid() {
				fail("this is the first thread")
			}
			fail("exec: %v", syscall.Exec(args[0], args, os.Environ()))
		}()
		<-done
	case "spawn": // N PATH...: one after another, by a clone that shares memory
		for range number(args[0]) {
			if out, err := exec.Command(args[1], args[2:]...).Output(); err != nil {
				fail("spawn: %v: %s", err, out)
			}
		}
		fmt.Println("spawned")
	case "many": // N PATH ARG: exec with so many arguments
		argv := append([]string{args[1]}, slices.Repeat(args[2:3], number(args[0]))...)
		fail("exec: %v", syscall.Exec(args[1], argv, os.Environ()))
	case "die": // by a signal
		_ = unix.Kill(unix.Getpid(), syscall.Signal(number(args[0])))
		time.Sleep(time.Minute)
	case "wait": // FILE: for a signal, once the file says that it does
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGUSR1)
		check(os.WriteFile(args[0], []byte(strconv.Itoa(os.Getpid())), 0o644))
		fmt.Println(<-signals)
	case "killall": // SIGNAL: kill(-1), and what it returns
		fmt.Println("kill:", unix.Kill(-1, syscall.Signal(number(args[0]))))
	case "setuid": // UID PATH...: exec as another user
		id := number(args[0])
		check(unix.Setresgid(id, id, id))
		check(unix.Setresuid(id, id, id))
		fail("exec: %v", syscall.Exec(args[1], args[1:], os.Environ()))
	case "chroot": // DIR PATH...: exec in another root
		check(unix.Chroot(args[0]))
		check(unix.Chdir("/"))
		fail("exec: %v", syscall.Exec(args[1], args[1:], os.Environ()))
	default:
		fail("what is %q?", what)
	}
}

func execat(dir, name string, flags int, argv []string) {
	fd, err := unix.Open(dir, unix.O_PATH, 0) // and not O_CLOEXEC: a script could not be read
	check(err)
	const at = 9
	check(unix.Dup3(fd, at, 0))
	argp, _ := syscall.SlicePtrFromStrings(argv)
	envp, _ := syscall.SlicePtrFromStrings(nil)
	n, _ := syscall.BytePtrFromString(name)
	_, _, errno := syscall.RawSyscall6(unix.SYS_EXECVEAT, at, uintptr(unsafe.Pointer(n)),
		uintptr(unsafe.Pointer(&argp[0])), uintptr(unsafe.Pointer(&envp[0])), uintptr(flags), 0)
	fail("execveat: %v", errno)
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	check(err)
	return n
}

func check(err error) {
	if err != nil {
		fail("%v", err)
	}
}
