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
	"syscall"
	"testing"
	"time"

	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/qemu"
	"github.com/kimg/kimg/internal/toolbox"
	"github.com/kimg/kimg/internal/vm"
)

// keptGuest is a real guest that is kept for a use, by nothing else than to keep it.
func keptGuest(t *testing.T, o vm.Options, k vm.Keeping) vm.Options {
	t.Helper()
	if qemu.ProbeKVM(arch.Default) == nil {
		t.Skip("guests are kept where they are emulated")
	}
	o.Kept = filepath.Join(t.TempDir(), "guests")
	tell(t, vm.Keep(t.Context(), o, k))
	if list, _ := filepath.Glob(filepath.Join(o.Kept, strings.Repeat("[0-9a-f]", 64))); len(list) != 1 {
		t.Fatalf("kept: %q", list)
	}
	o.Later = func(_ vm.Options, k vm.Keeping) { t.Errorf("it boots, and asks for %+v", k) }
	return o
}

// wasKept prints what a guest says of itself that goes on.
const wasKept = "dmesg | grep -c 'kimg: this guest had booted'"

// A person's console goes on: the prompt is there, and the shell, its size and the clock are right.
func TestConsoleGoesOn(t *testing.T) {
	for name, session := range map[string]string{"systemd": "", "without systemd": "sh"} {
		t.Run(name, func(t *testing.T) {
			o := realGuest(t)
			o.Direct, o.Session, o.Term = session != "", session, "screen"
			o = keptGuest(t, o, vm.Keeping{Use: vm.ForConsole, Term: ""})
			var stdout bytes.Buffer
			o.Stdout = &stdout
			o.Stdin = strings.NewReader("echo kept-$(" + wasKept + ")-$((6 * 7))-on-$(tty)-$(date +%s)-; exit 3\n")
			status, err := vm.Run(t.Context(), o)
			tell(t, err)
			said := stdout.String()
			_, after, _ := strings.Cut(said, "kept-1-42-on-/dev/ttyS0-")
			date, _, _ := strings.Cut(after, "-")
			n, err := strconv.ParseInt(date, 10, 64)
			if off := time.Since(time.Unix(n, 0)); err != nil || off < -2*time.Second || off > time.Minute {
				t.Errorf("its clock is off by %v, %v", off, err)
			}
			if status != 3 || strings.Contains(said, "Linux version") {
				t.Errorf("status %d\n%s", status, said)
			}
			prompt, _, _ := strings.Cut(said, "echo kept")
			if !strings.HasSuffix(prompt, "# ") { // before it the kernel says that it goes on
				t.Errorf("the prompt is %q", prompt)
			}
		})
	}
}

// A login by ssh goes on, with the keys that it had, and a command on the same kept guest.
func TestSSHGoesOn(t *testing.T) {
	for _, direct := range []bool{false, true} {
		o := sshGuest(t)
		o.Direct = direct
		o = keptGuest(t, o, vm.Keeping{Use: vm.ForCommand})
		var out bytes.Buffer
		o.Stdin, o.Stdout, o.Stderr = strings.NewReader("in"), &out, &out
		login := vm.Login{Command: []string{"sh", "-c", "cat; " + wasKept + "; exit 3"}}
		status, err := vm.SSH(t.Context(), o, login)
		tell(t, err)
		if status != 3 || out.String() != "in1\n" {
			t.Errorf("direct %v: %d, %q", direct, status, out.String())
		}
		out.Reset()
		status, err = vm.Exec(t.Context(), o, []string{"sh", "-c", wasKept + "; exit 4"})
		tell(t, err)
		if status != 4 || out.String() != "1\n" {
			t.Errorf("direct %v: the command: %d, %q", direct, status, out.String())
		}
	}
}

// A gdb finds a guest that runs, and whose console is its own.
func TestDebugGoesOn(t *testing.T) {
	o := directGuest(t)
	o.Session = "sh"
	o = keptGuest(t, o, vm.Keeping{Use: vm.ForDebug})
	o.Stdin, o.Stdout, o.Stderr = strings.NewReader(""), io.Discard, io.Discard
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	console := &watch{word: "42-lives", seen: make(chan struct{})}
	err := vm.Debug(ctx, o, vm.Debugging{Running: true, Attached: func(name string) func() {
		for _, g := range vm.RunningGuests() {
			if g.Name == name {
				typed := strings.NewReader(wasKept + "; cat /proc/sys/kernel/panic; echo $((6*7))-lives\n")
				go func() { _ = vm.Attach(ctx, g, typed, console) }()
			}
		}
		go func() {
			<-console.seen
			cancel()
		}()
		return func() {}
	}})
	said := string(console.said)
	if !errors.Is(err, context.Canceled) || !strings.Contains(said, "\n1\r\n0\r\n42-lives") {
		t.Errorf("%v\n%s", err, said)
	}
}

// A port of this machine reaches a guest that goes on, too.
func TestForwardGoesOn(t *testing.T) {
	o := keptGuest(t, directGuest(t), vm.Keeping{Use: vm.ForCommand})
	forward(t, o)
}

// What cannot go on is said to boot.
func TestSaysThatItBoots(t *testing.T) {
	o := directGuest(t)
	o.Kept = filepath.Join(t.TempDir(), "guests")
	o.Later = func(_ vm.Options, k vm.Keeping) { t.Errorf("it asks for %+v", k) }
	var said []string
	o.Say = func(text string) { said = append(said, text) }
	o.Shares = []vm.Share{{Dir: t.TempDir(), Path: "/mnt/a"}}
	status, err := vm.Exec(t.Context(), o, []string{"test", "-d", "/mnt/a"})
	tell(t, err)
	if !strings.Contains(strings.Join(said, "\n"), "a guest with shared directories boots each time") || status != 0 {
		t.Errorf("status %d, said %q", status, said)
	}
}

// Guests that go on share nothing that guests which boot would not. KIMG_TEST_WARM_RUNS says how many of them.
func TestNothingIsRepeated(t *testing.T) {
	runs, err := strconv.Atoi(os.Getenv("KIMG_TEST_WARM_RUNS"))
	if err != nil {
		runs = 4
	}
	for name, direct := range map[string]bool{"systemd": false, "without systemd": true} {
		t.Run(name, func(t *testing.T) {
			o := realGuest(t)
			o.Direct = direct
			o = keptGuest(t, o, vm.Keeping{Use: vm.ForCommand})
			o.Say = nil
			// A line each: what is a guest's own, and behind == what is of its boot or of QEMU's machine.
			const script = `date +%s.%N; head -c 16 /dev/urandom | od -An -tx1; head -c 16 /dev/random | od -An -tx1
				cat /proc/sys/kernel/random/uuid; mktemp -u; perl -e '$b = "\0" x 16; syscall 318, $b, 16, 0;
				print unpack("H*", $b), "\n"'; test ! -s /etc/machine-id || cat /etc/machine-id
				test -d /run/systemd/system && echo == # else nobody has asked for the boot id before
				cat /proc/sys/kernel/random/boot_id; echo ==; hostname; cat /sys/class/net/e*/address`
			seen := map[string]int{}
			first := ""
			worst := time.Duration(0)
			for n := range runs {
				var out bytes.Buffer
				o.Stdout = &out
				status, err := vm.Exec(t.Context(), o, []string{"sh", "-c", script})
				ended := time.Now()
				tell(t, err)
				own, same, _ := strings.Cut(out.String(), "==\n")
				if status != 0 {
					t.Fatalf("run %d: status %d, %q", n, status, out.String())
				}
				lines := strings.Split(strings.TrimSpace(own), "\n")
				for _, line := range lines {
					if before, again := seen[line]; again {
						t.Errorf("runs %d and %d both have %q", before, n, line)
					}
					seen[line] = n
				}
				var sec, nsec int64
				if _, err := fmt.Sscanf(lines[0], "%d.%d", &sec, &nsec); err != nil {
					t.Fatal(err)
				}
				worst = max(worst, ended.Sub(time.Unix(sec, nsec)).Abs())
				if first == "" {
					first = same
				}
				if same != first { // of the boot that was kept, and of QEMU's machine
					t.Errorf("run %d: %q, the first %q", n, same, first)
				}
			}
			// The command itself takes most of it.
			t.Logf("%d runs; from the guest's clock to the command's end at most %v; all have %q", runs, worst, first)
			if worst > time.Minute {
				t.Errorf("a clock was off by %v", worst)
			}
		})
	}
}

// Of a file of memory that guests go on from, each has what it writes, and shares what it reads.
func TestMemoryIsShared(t *testing.T) {
	o := keptGuest(t, directGuest(t), vm.Keeping{Use: vm.ForCommand})
	if _, host := o.Toolbox.(toolbox.Host); !host {
		t.Skip("QEMU is in a container, which hides its maps")
	}
	var private, shared int
	up := &firstLine{seen: make(chan struct{})}
	o.Stdout = up
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		<-up.seen
		private, shared = mappedFrom(t, o.Kept)
	}()
	status, err := vm.Exec(t.Context(), o, []string{"sh", "-c", "echo up; sleep 2"})
	tell(t, err)
	<-looked
	t.Logf("of the kept memory %d kB are private to a guest, and %d kB the page cache's", private, shared)
	if status != 0 || private == 0 || shared == 0 || private > 256<<10 {
		t.Errorf("status %d, private %d kB, shared %d kB", status, private, shared)
	}
}

// mappedFrom sums up /proc/PID/smaps(5) of the mapping of a file below a directory: kilobytes.
func mappedFrom(t *testing.T, dir string) (private, shared int) {
	t.Helper()
	maps, _ := filepath.Glob("/proc/[0-9]*/smaps")
	for _, name := range maps {
		b, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(b, []byte(dir)) {
			continue
		}
		inside := false
		for line := range strings.Lines(string(b)) {
			var kb int
			switch f := strings.Fields(line); {
			case len(f) > 4 && strings.Contains(f[0], "-"):
				inside = strings.Contains(line, dir)
			case inside && strings.HasPrefix(line, "Anonymous:"):
				_, _ = fmt.Sscanf(f[1], "%d", &kb)
				private += kb
			case inside && strings.HasPrefix(line, "Rss:"):
				_, _ = fmt.Sscanf(f[1], "%d", &kb)
				shared += kb
			}
		}
	}
	return private, shared - private
}

// Whoever is killed while it keeps a guest leaves nothing that counts, and no process; on a full disk it gives up.
func TestKeepingIsKilled(t *testing.T) {
	o := directGuest(t)
	if qemu.ProbeKVM(arch.Default) == nil {
		t.Skip("guests are kept where they are emulated")
	}
	if dir := os.Getenv("KIMG_TEST_KEEP"); dir != "" {
		o.Kept = dir
		tell(t, vm.Keep(t.Context(), o, vm.Keeping{Use: vm.ForCommand}))
		return
	}
	o.Kept = filepath.Join(t.TempDir(), "guests")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, sig := range []syscall.Signal{syscall.SIGKILL, 0} {
		p, err := os.StartProcess(self, []string{self, "-test.run", "^TestKeepingIsKilled$"}, &os.ProcAttr{
			Env: append(os.Environ(), "KIMG_TEST_KEEP="+o.Kept)})
		if err != nil {
			t.Fatal(err)
		}
		if sig != 0 {
			time.Sleep(2 * time.Second)
			if err := p.Signal(sig); err != nil {
				t.Fatal(err)
			}
		}
		state, err := p.Wait()
		if err != nil || state.Success() != (sig == 0) {
			t.Fatalf("%v: %v, %v", sig, state, err)
		}
		list, _ := filepath.Glob(filepath.Join(o.Kept, strings.Repeat("[0-9a-f]", 64)))
		if want := map[bool]int{true: 1}[sig == 0]; len(list) != want {
			t.Errorf("%v: kept %q", sig, list)
		}
	}
	if left, _ := os.ReadDir(filepath.Join(o.Kept, "growing")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
