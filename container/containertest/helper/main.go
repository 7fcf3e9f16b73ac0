// Helper is the only program in the image that tests run. Its first argument says what to do:
//
//	exit N        ends with status N
//	sleep         sleeps until it is killed
//	echo TEXT     writes TEXT to standard output
//	err TEXT      writes TEXT to standard error
//	cat [FILE]    copies its input, or the file, to its output, and ends with it
//	count         prints how many bytes its input had, and their sha256
//	flood N       writes N KiB: the 64-bit numbers from 0 on, little-endian
//	status        prints /proc/self/status
//	env           prints its environment
//	write F TEXT  writes TEXT to the file F
//	null F        makes the device F, which is a /dev/null
//	stat F        prints mode, owner and group of F
//	size          prints rows and columns of its terminal each time they change
//	net           prints the names of the network interfaces
//	spill F       writes to the file F until there is no space
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	log.SetFlags(0)
	arg := append(os.Args[1:], "", "")
	var err error
	switch arg[0] {
	case "exit":
		n, _ := strconv.Atoi(arg[1])
		os.Exit(n)
	case "sleep":
		time.Sleep(time.Hour)
	case "echo":
		fmt.Println(arg[1])
	case "err":
		fmt.Fprintln(os.Stderr, arg[1])
	case "cat":
		from := os.Stdin
		if arg[1] != "" {
			from, err = os.Open(arg[1])
		}
		if err == nil {
			_, err = io.Copy(os.Stdout, from)
		}
	case "count":
		sum := sha256.New()
		var n int64
		n, err = io.Copy(sum, os.Stdin)
		fmt.Printf("%d %x\n", n, sum.Sum(nil))
	case "flood":
		err = flood(arg[1])
	case "status":
		var b []byte
		b, err = os.ReadFile("/proc/self/status")
		os.Stdout.Write(b)
	case "env":
		fmt.Println(strings.Join(os.Environ(), "\n"))
	case "write":
		err = os.WriteFile(arg[1], []byte(arg[2]), 0o644)
	case "null":
		err = unix.Mknod(arg[1], unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
	case "stat":
		var st unix.Stat_t
		err = unix.Stat(arg[1], &st)
		fmt.Printf("%o %d %d\n", st.Mode&0o7777, st.Uid, st.Gid)
	case "size":
		err = size()
	case "net":
		var all []net.Interface
		all, err = net.Interfaces()
		for _, i := range all {
			fmt.Println(i.Name)
		}
	case "spill":
		err = spill(arg[1])
	default:
		log.Fatalf("helper: %q is not known", arg[0])
	}
	if err != nil {
		log.Fatal(err)
	}
}

func flood(kib string) error {
	n, err := strconv.ParseUint(kib, 10, 32)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(os.Stdout, 1<<16)
	var b [8]byte
	for i := range n << 10 / 8 {
		binary.LittleEndian.PutUint64(b[:], i)
		w.Write(b[:])
	}
	return w.Flush()
}

func size() error {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	for {
		ws, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
		if err != nil {
			return err
		}
		fmt.Println(ws.Row, ws.Col)
		<-changed
	}
}

func spill(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, zeros{})
	return err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
