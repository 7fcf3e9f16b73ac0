package e2e

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ordinary is a user that has no name, no group, no subordinate ids and no engine.
const ordinary = 54321

// withoutRoot makes the build again as an ordinary user in the embedded engine, under a watch of every process that it
// starts: none is another user than that one, outside of its namespace. The artifacts are those in out.
func withoutRoot(t *testing.T, k kimg, out string, build []string) {
	if os.Getuid() != 0 {
		t.Skip("to watch all processes, and to become another user, takes root")
	}
	home := t.TempDir()
	for dir := home; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) { // the user has to get there
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(home, ordinary, ordinary); err != nil {
		t.Fatal(err)
	}
	k.bin = copyProgram(t, k.bin, filepath.Join(home, "kimg"))
	k.dir = home
	k.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LANG=C.UTF-8", "KIMG_ENGINE=embedded",
		"KIMG_TOOLS=container", "KIMG_MIRROR=" + os.Getenv("KIMG_MIRROR")}
	k.as = &syscall.Credential{Uid: ordinary, Gid: ordinary}
	w := watchUsers(t, ordinary)
	k.started = w.add

	mine := filepath.Join(home, "kimg-out")
	at := slices.Index(build, "--out")
	build = slices.Replace(slices.Clone(build), at, at+2, "--out", mine)
	if r := k.run(t, "", "engine").want(t, 0); !strings.HasPrefix(r.stdout, "used: embedded ") ||
		!strings.Contains(r.stdout, ", one user id, ") {
		t.Errorf("kimg engine says\n%s", r.stdout)
	}
	k.run(t, "", build...).want(t, 0)
	theirs := map[string]string{}
	for _, a := range readManifest(t, out).Build.Artifacts {
		theirs[a.Path] = a.SHA256
	}
	for _, a := range readManifest(t, mine).Build.Artifacts {
		if theirs[a.Path] != a.SHA256 {
			t.Errorf("%s has sha256 %s, and %s in the other engine", a.Path, a.SHA256, theirs[a.Path])
		}
		delete(theirs, a.Path)
	}
	if len(theirs) > 0 {
		t.Errorf("these artifacts are not there: %v", theirs)
	}
	if r := k.run(t, "", "run", "--out", mine, "--", "id", "-u").want(t, 0); r.stdout != "0\n" {
		t.Errorf("id -u in the guest is %q", r.stdout)
	}
	r := k.run(t, "", "check", "--out", mine, "--break", "do_sys_open").want(t, 0)
	if !strings.Contains(r.stdout, "fs/open.c:") {
		t.Errorf("no backtrace on stdout:\n%s", r.stdout)
	}
	// What comes last is seen last: the watch has seen all when it has seen this, and it has an eye for it.
	su := kimg{bin: "/bin/su", dir: home, as: k.as, started: w.add, pids: k.pids}
	su.run(t, "", "--version")
	seen, others := w.until("/bin/su")
	for _, other := range others {
		t.Error(other)
	}
	if seen < 1000 {
		t.Errorf("the watch saw %d processes only", seen)
	}
	if left := findEngine(t, k).leftovers(t, k); len(left) > 0 {
		t.Errorf("these were left: %q", left)
	}

	k.run(t, "", "cache", "prune", "--all").want(t, 0)
	remove := exec.Command("sh", "-c", `rm -rf "$1"/* "$1"/.[!.]*`, "sh", home)
	remove.SysProcAttr = &syscall.SysProcAttr{Credential: k.as}
	if said, err := remove.CombinedOutput(); err != nil {
		t.Errorf("what the user has cannot be removed by the user: %v\n%s", err, said)
	}
}

func copyProgram(t *testing.T, from, to string) string {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// userWatch is told by the kernel of all processes that begin and change their user. Source: linux/cn_proc.h.
type userWatch struct {
	t    *testing.T
	want uint32

	mu     sync.Mutex
	ours   map[uint32]bool // processes that run: started by us, or by one of ours
	seen   int             // how many there were
	events []procEvent     // until add says whose they are
	found  []string
}

type procEvent struct{ What, Pid, Tgid, A, B uint32 }

const (
	eventFork = 1
	eventUID  = 4
	eventExit = 1 << 31
)

func watchUsers(t *testing.T, uid uint32) *userWatch {
	t.Helper()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_CONNECTOR)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 /* CN_IDX_PROC */})
	}
	if err == nil { // so that the reader can end
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000})
	}
	if err == nil { // events come by the hundred thousand
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 256<<20)
	}
	if err == nil {
		var b bytes.Buffer
		for _, part := range []any{
			unix.NlMsghdr{Len: 40, Type: unix.NLMSG_DONE, Pid: uint32(os.Getpid())},
			struct {
				Idx, Val, Seq, Ack uint32
				Len, Flags         uint16
				Op                 uint32
			}{Idx: 1, Val: 1, Len: 4, Op: 1}, // PROC_CN_MCAST_LISTEN
		} {
			_ = binary.Write(&b, binary.NativeEndian, part) // into memory
		}
		err = unix.Sendto(fd, b.Bytes(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}
	if err != nil {
		t.Fatalf("watch processes: %v", err)
	}
	w := &userWatch{t: t, want: uid, ours: map[uint32]bool{}}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 4096)
		for {
			n, _, err := unix.Recvfrom(fd, b, 0)
			select {
			case <-stop:
				return
			default:
			}
			switch {
			case err == unix.EINTR, err == unix.EAGAIN:
			case err != nil:
				w.mu.Lock()
				w.found = append(w.found, fmt.Sprintf("the watch was lost: %v", err))
				w.mu.Unlock()
				return
			case n >= 16+20+16+20:
				var e procEvent
				e.What = binary.NativeEndian.Uint32(b[36:])
				for i, to := range []*uint32{&e.Pid, &e.Tgid, &e.A, &e.B} {
					*to = binary.NativeEndian.Uint32(b[52+4*i:])
				}
				w.take(e)
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-done
		unix.Close(fd)
	})
	return w
}

// add says that a process that has executed its program is ours.
func (w *userWatch) add(pid int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ours[uint32(pid)] = true
	w.seen++
	for _, e := range w.events {
		w.judge(e)
	}
	w.events = nil
}

func (w *userWatch) take(e procEvent) {
	if e.What != eventFork && e.What != eventUID && e.What != eventExit {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ours[e.Tgid] {
		w.judge(e)
	} else {
		w.events = append(w.events, e) // a child of ours may be faster than add
	}
}

func (w *userWatch) judge(e procEvent) {
	switch {
	case !w.ours[e.Tgid]:
	case e.What == eventExit && e.Pid == e.Tgid:
		delete(w.ours, e.Tgid) // its number may be given to another
	case e.What == eventFork && e.B != e.Tgid: // and not a thread
		w.ours[e.B] = true
		w.seen++
	case e.What == eventUID && (e.A != w.want || e.B != w.want):
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", e.Tgid)) // it may have ended
		w.found = append(w.found, fmt.Sprintf("process %d became user %d (effective %d): %q",
			e.Tgid, e.A, e.B, cmp.Or(strings.ReplaceAll(string(line), "\x00", " "), ended)))
	}
}

// until waits for a set-uid program of that name, and returns how many processes of ours there were, and those that
// were another user before it.
func (w *userWatch) until(program string) (seen int, others []string) {
	w.t.Helper()
	for range 100 {
		w.mu.Lock()
		seen, others = w.seen, slices.Clone(w.found)
		w.mu.Unlock()
		if n := len(others); n > 0 && (strings.Contains(others[n-1], program) || strings.Contains(others[n-1], ended)) {
			return seen, others[:n-1]
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.t.Error("the watch did not see " + program)
	return seen, others
}

// ended stands for the command line of a process that cannot be asked for it any more.
const ended = "it has ended"
