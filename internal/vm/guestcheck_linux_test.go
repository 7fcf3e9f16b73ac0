package vm_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kimg/kimg/internal/gdb"
	"github.com/kimg/kimg/internal/vm"
)

// directGuest is a real guest that boots without systemd.
func directGuest(t *testing.T) vm.Options {
	o := realGuest(t)
	o.Direct = true
	return o
}

// A breakpoint for the time that a command runs: the command's own streams are all
// its own, and what gdb says is of that stop.
func TestCheckWhileACommandRuns(t *testing.T) {
	o := directGuest(t)
	var stdout, stderr bytes.Buffer
	o.Stdout, o.Stderr = &stdout, &stderr
	r, err := vm.RunCheck(t.Context(), o, vm.Check{Break: "version_proc_show", During: true,
		Command: []string{"sh", "-ec", "echo before; cat /proc/version; echo after >&2; exit 4"},
		Print:   []string{"/x 6*7", "nosuch", "$lx_current().comm", "schedule()"}})
	tell(t, err)
	if !r.Hit || r.Frames[0].Function != "version_proc_show" || r.Frames[0].File != "fs/proc/version.c" ||
		r.Frames[0].Line == 0 {
		t.Errorf("stopped in %+v", r.Frames)
	}
	if !strings.HasPrefix(r.Task, "cat (pid ") {
		t.Errorf("by %q", r.Task)
	}
	v := r.Values
	if len(v) != 4 || v[0].Text != "0x2a" || !strings.Contains(v[1].Err, "nosuch") || v[2].Text != `"cat"` ||
		v[3].Err == "" {
		t.Errorf("values %+v", v)
	}
	if lines := strings.Split(stdout.String(), "\n"); len(lines) != 3 || lines[0] != "before" ||
		!strings.HasPrefix(lines[1], "Linux version") ||
		stderr.String() != "after\n" || !r.Ran || r.Status != 4 {
		t.Errorf("stdout %q, stderr %q, status %d", stdout.String(), stderr.String(), r.Status)
	}
	if !strings.Contains(r.Log, "-break-insert") || len(r.Backtrace) == 0 || len(r.Console) == 0 {
		t.Errorf("log %q, backtrace %q, console %q", r.Log, r.Backtrace, r.Console)
	}
}

// A function that everybody calls: only one process is to stop there.
func TestCheckOfOneProcess(t *testing.T) {
	c := vm.Check{Break: "vfs_read", During: true, By: "cat",
		Command: []string{"sh", "-ec", "head -c 1 /etc/passwd; cat /proc/version"}}
	r, err := vm.RunCheck(t.Context(), directGuest(t), c)
	tell(t, err)
	if !r.Hit || !strings.HasPrefix(r.Task, "cat (pid ") || r.Status != 0 {
		t.Errorf("by %q, status %d", r.Task, r.Status)
	}
	if strings.Count(r.Log, "-exec-continue") < 2 {
		t.Errorf("no other process came by:\n%s", r.Log)
	}
	c.By = "nobody"
	_, err = vm.RunCheck(t.Context(), directGuest(t), c)
	if err == nil || err.Error() != "the command ended with status 0 and did not reach vfs_read by nobody" {
		t.Errorf("%v", err)
	}
}

// The boot passes the place, and the command does not.
func TestCheckThatACommandDoesNotReach(t *testing.T) {
	r, err := vm.RunCheck(t.Context(), directGuest(t),
		vm.Check{Break: "start_kernel", During: true, Command: []string{"sh", "-c", "exit 5"}})
	var guest *vm.GuestError
	if !errors.As(err, &guest) || err.Error() != "the command ended with status 5 and did not reach start_kernel" ||
		!r.Ran || r.Status != 5 || r.Hit {
		t.Errorf("%v, %+v", err, r)
	}
}

func TestCheckOfACommandAlone(t *testing.T) {
	o := directGuest(t)
	var stdout bytes.Buffer
	o.Stdout = &stdout
	r, err := vm.RunCheck(t.Context(), o, vm.Check{Command: []string{"sh", "-ec", "echo one; false; echo two"}})
	tell(t, err)
	if stdout.String() != "one\n" || !r.Ran || r.Status != 1 || r.Log != "" {
		t.Errorf("%q, %+v", stdout.String(), r)
	}
}

func TestCheckPanics(t *testing.T) {
	r, err := vm.RunCheck(t.Context(), directGuest(t), vm.Check{Break: "panic", During: true,
		Command: []string{"sh", "-c", "echo c >/proc/sysrq-trigger"}, Print: []string{"$lx_current().comm"}})
	var guest *vm.GuestError
	if !errors.As(err, &guest) || !strings.Contains(err.Error(), "the guest's kernel panicked: sysrq triggered crash") {
		t.Errorf("%v", err)
	}
	if !r.Hit || r.Frames[0].Function != "panic" || r.Ran {
		t.Errorf("before it: %+v", r)
	}
}

func TestCheckIsLate(t *testing.T) {
	for _, c := range []vm.Check{
		{Break: "version_proc_show"}, {Command: []string{"true"}},
		{Break: "version_proc_show", During: true, Command: []string{"true"}},
	} {
		c.Limit = time.Second
		begun := time.Now()
		_, err := vm.RunCheck(t.Context(), directGuest(t), c)
		var guest *vm.GuestError
		if !errors.As(err, &guest) || !strings.HasSuffix(err.Error(), " in 1s") {
			t.Errorf("%+v: %v", c, err)
		}
		if took := time.Since(begun); took > time.Minute {
			t.Errorf("it took %v to end", took)
		}
	}
}

// Whoever dies under a check, the check ends at once and says who.
func TestCheckWhoseProgramsAreKilled(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()) // others may have guests, too
	const break_, script = "version_proc_show", "echo up; sleep 600"
	for _, tt := range []struct{ program, says string }{
		{"qemu-system-x86_64", "QEMU was killed: "}, {"gdb", "gdb ended: "},
	} {
		o := directGuest(t)
		mark := "kimg-test-" + strconv.Itoa(os.Getpid()) + "-" + tt.program
		o.QEMU = []string{"-name", mark}
		up := &watch{word: "up\n", seen: make(chan struct{})}
		o.Stdout = up
		killed := make(chan error, 1)
		go func() {
			<-up.seen
			killed <- kill(mark, tt.program)
		}()
		begun := time.Now()
		_, err := vm.RunCheck(t.Context(), o,
			vm.Check{Break: break_, During: true, Command: []string{"sh", "-c", script}})
		if e := <-killed; e != nil {
			t.Fatal(e)
		}
		if err == nil || !strings.HasPrefix(err.Error(), tt.says) || time.Since(begun) > 10*time.Minute {
			t.Errorf("%s: %v", tt.program, err)
		}
		var guest *vm.GuestError
		if isGuest := errors.As(err, &guest); isGuest != (tt.program != "gdb") {
			t.Errorf("%s: the guest's fault: %v", tt.program, isGuest)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "kimg-vm-*", "gdb")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// A guest whose init is the agent lives on though there is no command for it.
func TestCheckWithoutSystemdAndCommand(t *testing.T) {
	r, err := vm.RunCheck(t.Context(), directGuest(t), vm.Check{Break: "panic", Limit: time.Minute})
	if err == nil || err.Error() != "the guest did not reach panic in 1m0s" || r.Hit {
		t.Errorf("%v\n%s\n%s", err, strings.Join(r.Backtrace, "\n"), strings.Join(r.Console, "\n"))
	}
}

// Under gdb the shell command is on the console too, and its end is not the guest's.
func TestDebugWithoutSystemd(t *testing.T) {
	o := directGuest(t)
	o.Session = "echo $((6 * 7))-is-up; sleep 8; echo $((6 * 7))-lives"
	o.Stdin, o.Stdout, o.Stderr = strings.NewReader(""), io.Discard, io.Discard
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	console := &watch{word: "42-lives", seen: make(chan struct{})}
	err := vm.Debug(ctx, o, vm.Debugging{Running: true, Attached: func(name string) func() {
		for _, g := range vm.RunningGuests() {
			if g.Name == name {
				go func() { _ = vm.Attach(ctx, g, strings.NewReader(""), console) }()
			}
		}
		go func() {
			<-console.seen
			cancel()
		}()
		return func() {}
	}})
	if said := string(console.said); !errors.Is(err, context.Canceled) || !strings.Contains(said, "42-is-up") ||
		strings.Contains(said, "Kernel panic") {
		t.Errorf("%v\n%s", err, said)
	}
}

// The end of the context ends a check at any time, and leaves nothing.
func TestCheckIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	o := directGuest(t)
	mark := "kimg-test-" + strconv.Itoa(os.Getpid()) + "-interrupted"
	o.QEMU = []string{"-name", mark}
	up := &watch{word: "up\n", seen: make(chan struct{})}
	o.Stdout = up
	var since time.Time
	go func() {
		<-up.seen
		since = time.Now()
		cancel()
	}()
	_, err := vm.RunCheck(ctx, o, vm.Check{Break: "version_proc_show", During: true,
		Command: []string{"sh", "-c", "echo up; sleep 600"}})
	if took := time.Since(since); !errors.Is(err, context.Canceled) || took > 30*time.Second {
		t.Errorf("%v after %v", err, took)
	}
	if pids := running(mark); len(pids) > 0 {
		t.Errorf("QEMU still runs: %v", pids)
	}
}

func TestPreflight(t *testing.T) {
	o := realGuest(t)
	shared := o
	shared.Shares = []vm.Share{{Dir: "/nowhere/at/all", Path: "/mnt/x"}}
	plan := func(at string, places ...string) vm.Planned {
		return vm.Planned{Options: o, Check: vm.Check{Break: at}, Places: places}
	}
	wrong, err := vm.Preflight(t.Context(), []vm.Planned{
		plan("do_sys_openat2", "fs/open.c:1000", "entry_SYSCALL_64"), plan("do_sys_opem"), plan("a b"),
		plan("vfs_read", "vfs_raed"),
		plan("fs/opem.c:1"), plan("vfs_read", "fs/open.c:99999"),
		{Options: o, Check: vm.Check{Command: []string{"true"}}},
		{Options: o, Check: vm.Check{Break: "vfs_read", Print: []string{"$_shell(\"id\")"}}},
		{Options: o, Check: vm.Check{Break: "vfs_read", During: true}},
		{Options: shared, Check: vm.Check{Command: []string{"true"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"", "break at do_sys_opem: ", "break at \"a b\"", "expect vfs_raed: ",
		"break at fs/opem.c:1: ", "expect fs/open.c:99999: ", "",
		"$_shell would leave", "want both", "share /nowhere/at/all: "} {
		if got := fmt.Sprint(wrong[i]); want == "" && wrong[i] != nil || !strings.Contains(got, want) {
			t.Errorf("%d: %s, want %q", i, got, want)
		}
	}
	var unknown *gdb.NoBreakError
	if !errors.As(wrong[1], &unknown) || !strings.Contains(unknown.Hint(), "do_sys_open") {
		t.Errorf("%v has no hint", wrong[1])
	}
}

// watch tells when a word was written to it.
type watch struct {
	word string
	seen chan struct{}

	mu   sync.Mutex
	said []byte
}

func (w *watch) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	had := bytes.Contains(w.said, []byte(w.word))
	w.said = append(w.said, p...)
	if !had && bytes.Contains(w.said, []byte(w.word)) {
		close(w.seen)
	}
	return len(p), nil
}

// running finds the processes of QEMU that have the mark among their words.
func running(mark string) []int {
	var pids []int
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range all {
		words, err := os.ReadFile(name)
		if err != nil || !bytes.HasPrefix(words, []byte("qemu-system-x86_64\x00")) ||
			!bytes.Contains(words, []byte(mark+"\x00")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// kill kills the QEMU that has the mark, or the gdb that goes with it: the one in the
// same container, or on this machine the one that this test started.
func kill(mark, program string) error {
	qemu := running(mark)
	if len(qemu) != 1 {
		return fmt.Errorf("find QEMU: there are %v (is the engine on this machine?)", qemu)
	}
	if program != "gdb" {
		return syscall.Kill(qemu[0], syscall.SIGKILL)
	}
	space := func(pid any) string { link, _ := os.Readlink(fmt.Sprintf("/proc/%v/ns/pid", pid)); return link }
	all, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, name := range all {
		comm, err := os.ReadFile(name)
		if err != nil || string(comm) != "gdb\n" {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		mine := err == nil && strings.Contains(string(status), fmt.Sprintf("\nPPid:\t%d\n", os.Getpid()))
		if space(pid) == space(qemu[0]) && (mine || space(pid) != space("self")) {
			return syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	return errors.New("find gdb: there is none")
}
