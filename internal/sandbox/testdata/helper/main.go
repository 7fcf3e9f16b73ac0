// Helper is the only program in the roots that tests run. Its first argument says what to do.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	_ "github.com/kimg/kimg/internal/sandbox/foreign" // it is the tracer, too
)

func main() {
	args := os.Args
	if strings.HasSuffix(args[0], ".emulator") && len(args) > 3 { // called by the tracer: -0 ARGV0 PATH ARGUMENT...
		args = args[3:]
	}
	arg := append(args[1:], "", "", "")
	if err := do(arg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func do(arg []string) error {
	switch arg[0] {
	case "exit":
		n, _ := strconv.Atoi(arg[1])
		os.Exit(n)
	case "echo":
		fmt.Println(arg[1])
	case "err":
		fmt.Fprintln(os.Stderr, arg[1])
	case "cat":
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	case "sleep":
		time.Sleep(time.Hour)
	case "env":
		fmt.Println(strings.Join(os.Environ(), "\n"))
	case "cwd":
		d, err := os.Getwd()
		fmt.Println(d)
		return err
	case "read":
		b, err := os.ReadFile(arg[1])
		os.Stdout.Write(b)
		return err
	case "write":
		return os.WriteFile(arg[1], []byte(arg[2]), 0o644)
	case "stat": // mode, owner, group of each
		for _, p := range arg[1:] {
			if p == "" {
				continue
			}
			var st unix.Stat_t
			if err := unix.Lstat(p, &st); err != nil {
				return err
			}
			fmt.Printf("%s %o %d %d\n", p, st.Mode, st.Uid, st.Gid)
		}
	case "chown":
		var uid, gid int
		fmt.Sscanf(arg[1], "%d:%d", &uid, &gid)
		return os.Lchown(arg[2], uid, gid)
	case "into": // a root, and then execute
		if err := unix.Chroot(arg[1]); err != nil {
			return err
		}
		if err := unix.Chdir("/"); err != nil {
			return err
		}
		return syscall.Exec(arg[2], slices.DeleteFunc(arg[2:], func(s string) bool { return s == "" }), os.Environ())
	case "setid": // be another user, and then execute
		n, _ := strconv.Atoi(arg[1])
		if err := errors.Join(unix.Setresgid(n, n, n), unix.Setresuid(n, n, n)); err != nil {
			return err
		}
		return syscall.Exec(arg[2], slices.DeleteFunc(arg[2:], func(s string) bool { return s == "" }), os.Environ())
	case "id":
		g, err := unix.Getgroups()
		fmt.Println(unix.Getuid(), unix.Getgid(), g)
		return err
	case "ls":
		l, err := os.ReadDir(arg[1])
		for _, e := range l {
			fmt.Println(e.Name())
		}
		return err
	case "orphans": // leaves sleeping processes behind, in sessions of their own
		for range 3 {
			cmd := exec.Command(os.Args[0], "sleep")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			if err := cmd.Start(); err != nil {
				return err
			}
		}
		fmt.Println("started")
	case "trap": // says so, then waits for SIGTERM
		ch := make(chan os.Signal, 1)
		signal.Notify(ch, syscall.SIGTERM)
		fmt.Println("ready")
		<-ch
		os.Exit(7)
	case "size": // prints its terminal's size, and again when that changes
		ch := make(chan os.Signal, 1)
		signal.Notify(ch, syscall.SIGWINCH)
		for {
			ws, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
			if err != nil {
				return err
			}
			fmt.Printf("%dx%d\n", ws.Row, ws.Col)
			<-ch
		}
	default:
		return attack(arg)
	}
	return nil
}
