package sandbox

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What a hostile program tries is refused; root in the sandbox, with Docker's usual capabilities, is no exception.
func TestAttacks(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	abstract := fmt.Sprintf("kimg-attack-%d", os.Getpid())
	sock, err := net.Listen("unix", "@"+abstract)
	if err != nil {
		t.Fatal(err)
	}
	defer sock.Close()
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, []byte("secret"), 0o644)
	leaked, err := unix.Open(secret, unix.O_RDONLY, 0) // as a shell or a CI may have left it: without O_CLOEXEC
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leaked)
	target, in, err := os.Pipe() // a process of the machine, which ends when it is killed, or with its input
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	victim := exec.Command("cat")
	victim.Stdin = target
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		if err := victim.Wait(); err != nil {
			t.Errorf("a process of the machine: %v", err)
		}
	}()
	none := []string(nil)
	usual := strings.Fields("CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE " +
		"SYS_CHROOT SETFCAP")
	eachIDs(t, func(t *testing.T, ids IDs) {
		vol := t.TempDir()
		node := filepath.Join(vol, "zero") // only root can put one there
		_ = unix.Mknod(node, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5)))
		layer := temp(t, ids)
		s := start(t, Config{IDs: ids, Root: newRoot(t), Layer: layer + "/l",
			Mounts: []Mount{{Source: vol, Target: "/vol"}}})
		for _, caps := range [][]string{none, usual, append([]string{"MKNOD"}, usual...)} {
			for _, args := range [][]string{
				{"network", tcp.Addr().String(), abstract}, {"pid1"}, {"sysctl"}, {"writable"}, {"keys"}, {"mounts"},
				{"namespaces"}, {"calls"}, {"machine", strconv.Itoa(victim.Process.Pid), secret}, {"descriptors"},
				{"device", "/vol/zero"},
			} {
				if got, status := run(t, s, Process{Caps: caps}, args...); got != "" || status != 0 {
					t.Errorf("%s with %v: status %d\n%s", args[0], caps, status, got)
				}
			}
		}
		if got, _ := run(t, s, Process{Caps: usual}, "chroot"); got != "bin dev etc proc sys tmp vol" {
			t.Errorf("out of a chroot: %s", got)
		}
		r, err := s.Run(Process{Args: []string{"/bin/helper", "type"}, TTY: true})
		if err != nil {
			t.Fatal(err)
		}
		defer r.PTY.Close()
		if got, _ := io.ReadAll(r.PTY); len(got) > 0 {
			t.Errorf("typed into the terminal: %s", got)
		}
	})
}

// A process with other ids than the owner of a link or file gets no more by way of copies: all of it is the volume's.
func TestCopiesWhileFilesAreSwapped(t *testing.T) {
	vol := t.TempDir()
	s := start(t, Config{Mounts: []Mount{{Source: vol, Target: "/vol"}}})
	_, out := begin(t, s, Process{}, "swap", "/vol")
	line(t, out, "swapping")
	outside, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	worked := 0
	for i := range 150 {
		var b bytes.Buffer
		err := s.Pack(t.Context(), "/vol", &b)
		if errors.Is(err, os.ErrNotExist) {
			t.Errorf("something in the volume is gone, not the volume: %v", err)
		}
		if err == nil {
			worked++
		}
		if bytes.Contains(b.Bytes(), []byte("root:x:0:0")) || bytes.Contains(b.Bytes(), outside[:4096]) {
			t.Fatal("a file from elsewhere was packed")
		}
		file := &tar.Header{Name: fmt.Sprintf("x/new%d", i), Mode: 0o644, Size: 3}
		_ = s.Unpack(t.Context(), "/vol", makeTar(t, file)) // it may meet a file in a directory's place
	}
	if worked == 0 {
		t.Error("no copy was whole")
	}
	list, _ := run(t, s, Process{}, "ls", "/etc")
	if strings.Contains(list, "new") {
		t.Errorf("a file was put elsewhere: %s", list)
	}
}

func TestBounds(t *testing.T) {
	s := start(t, Config{})
	limits, _ := run(t, s, Process{}, "read", "/proc/self/limits")
	for line := range strings.Lines(limits) {
		if f := strings.Fields(line); strings.HasPrefix(line, "Max processes") {
			if n, err := strconv.Atoi(f[2]); err != nil || n > maxProcesses {
				t.Error(line)
			}
		}
	}
	if got, _ := run(t, s, Process{}, "read", "/proc/sys/user/max_user_namespaces"); got != "0" {
		t.Errorf("%s user namespaces may be made", got)
	}
	_, out := begin(t, s, Process{}, "bomb")
	line(t, out, "up")
	if err := s.KillAll(); err != nil {
		t.Fatal(err)
	}
	if got, status := run(t, s, Process{}, "echo", "alive"); got != "alive" || status != 0 {
		t.Errorf("after a bomb: %s, %d", got, status)
	}
}

// victim, in a process of its own, starts sandboxes that do this and that until it is killed.
func TestVictim(t *testing.T) {
	token := os.Getenv("KIMG_TEST_VICTIM")
	if token == "" {
		t.SkipNow() // it is for TestKilled
	}
	root := newRoot(t)
	for {
		s, err := Start(t.Context(), Config{IDs: victimIDs(), Root: root, Tmpfs: map[string]string{"/tmp": ""}})
		if err != nil {
			t.Fatal(err)
		}
		for _, what := range []string{"orphans", "sleep"} {
			if _, err := s.Run(Process{Args: []string{"/bin/helper", what, token}}); err != nil {
				t.Fatal(err)
			}
		}
		_ = s.Unpack(t.Context(), "/tmp", makeTar(t, entries()...))
		_ = s.Pack(t.Context(), "/bin", io.Discard)
		fmt.Println("round")
		s.Close()
	}
}

func victimIDs() IDs {
	if ids, err := SubIDs(); err == nil && os.Getpid()%2 == 0 {
		return ids
	}
	return OneID(0, 0)
}

// However the program ends that made a sandbox, nothing of it runs on.
func TestKilled(t *testing.T) {
	start(t, Config{}).Close() // skips where there is none
	program, err := helper()
	if err != nil {
		t.Fatal(err)
	}
	prebuilt := filepath.Join(t.TempDir(), "helper")
	write(t, prebuilt, program, 0o755)
	rounds := 30
	if n, err := strconv.Atoi(os.Getenv("KIMG_TEST_KILLS")); err == nil {
		rounds = n
	}
	for i := range rounds {
		token := fmt.Sprintf("kimg-token-%d-%d", os.Getpid(), i)
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestVictim$", "-test.v")
		cmd.Env = append(os.Environ(), "KIMG_TEST_VICTIM="+token, "KIMG_TEST_HELPER="+prebuilt, "TMPDIR="+t.TempDir())
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 { // at once, or in the middle of something
			b := make([]byte, 64)
			for !bytes.Contains(b, []byte("round")) {
				if _, err := out.Read(b); err != nil {
					t.Fatalf("the victim ended: %v", err)
				}
			}
		}
		time.Sleep(time.Duration(i*i%97) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		marks := []string{token, fmt.Sprintf("%s\x00%d\x00", argv0, cmd.Process.Pid)}
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			left := processes(t, marks)
			if len(left) == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("round %d: these run on: %q", i, left)
			}
		}
	}
}

// processes lists the command lines that contain one of the marks.
func processes(t *testing.T, marks []string) (found []string) {
	t.Helper()
	list, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		b, _ := os.ReadFile(p) // it may have ended
		for _, m := range marks {
			if bytes.Contains(b, []byte(m)) {
				found = append(found, string(b))
			}
		}
	}
	return found
}

func TestKilledPid1(t *testing.T) {
	for range 10 {
		s := start(t, Config{})
		token := fmt.Sprintf("kimg-pid1-%d", os.Getpid())
		r, _ := begin(t, s, Process{}, "sleep", token)
		if got, _ := run(t, s, Process{}, "orphans", token); got != "started" {
			t.Fatal(got)
		}
		if err := s.link.process.Kill(); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Wait(); !errors.Is(err, errEnded) {
			t.Errorf("a process of it: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if left := processes(t, []string{token}); len(left) > 0 {
			t.Errorf("these run on: %q", left)
		}
		if err := s.KillAll(); !errors.Is(err, errEnded) {
			t.Errorf("kill all: %v", err)
		}
	}
}
