package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// helper compiles the program of the roots, once; KIMG_TEST_HELPER names one where there is no Go.
var helper = sync.OnceValues(func() ([]byte, error) {
	if p := os.Getenv("KIMG_TEST_HELPER"); p != "" {
		return os.ReadFile(p)
	}
	dir, err := os.MkdirTemp("", "kimg-helper-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "helper")
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", out, "./testdata/helper")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if b, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile helper: %w: %s", err, b)
	}
	return os.ReadFile(out)
})

// need says why a test cannot be: on a laptop it is skipped.
func need(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatalf("CI is set, and this machine cannot do it: %v", err)
	default:
		t.Skip(err)
	}
}

// eachIDs runs a test with one id and with subordinate ones, where this user has them.
func eachIDs(t *testing.T, test func(t *testing.T, ids IDs)) {
	t.Run("one id", func(t *testing.T) { test(t, OneID(0, 0)) })
	t.Run("sub ids", func(t *testing.T) {
		ids, err := SubIDs()
		if err != nil { // no machine needs to have them
			t.Skip(err)
		}
		test(t, ids)
	})
}

// newRoot makes a root with the helper in it.
func newRoot(t testing.TB) string {
	t.Helper()
	program, err := helper()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "a root, with: signs")
	write(t, dir+"/bin/helper", program, 0o755)
	write(t, dir+"/etc/passwd", []byte("root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n"), 0o644)
	write(t, dir+"/etc/group", []byte("root:x:0:\nann:x:1000:\nmore:x:2000:ann\n"), 0o644)
	if err := os.Mkdir(dir+"/tmp", 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t testing.TB, name string, b []byte, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

func start(t testing.TB, c Config) *Sandbox {
	t.Helper()
	if c.Root == "" {
		c.Root = newRoot(t)
	}
	if c.IDs.UIDs == nil {
		c.IDs = OneID(0, 0)
	}
	s, err := Start(t.Context(), c)
	if err != nil {
		need(t, err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// run runs the helper and returns what it wrote, both streams, and its status.
func run(t testing.TB, s *Sandbox, p Process, args ...string) (string, int) {
	t.Helper()
	r, out := begin(t, s, p, args...)
	b, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	status, err := r.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b)), status
}

// begin starts the helper and returns what it writes.
func begin(t testing.TB, s *Sandbox, p Process, args ...string) (*Running, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	if p.Args == nil {
		p.Args = append([]string{"/bin/helper"}, args...)
	}
	p.Stdout, p.Stderr = w, w
	running, err := s.Run(p)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return running, r
}

func TestProcess(t *testing.T) {
	eachIDs(t, func(t *testing.T, ids IDs) {
		s := start(t, Config{IDs: ids})
		for _, tt := range []struct {
			name   string
			p      Process
			args   string
			want   string
			status int
		}{
			{name: "output", args: "echo hello", want: "hello"},
			{name: "error output", args: "err hello", want: "hello"},
			{name: "status", args: "exit 42", status: 42},
			{name: "environment", p: Process{Env: []string{"A=b"}}, args: "env", want: "A=b\nHOME=/root"},
			{name: "directory", p: Process{Dir: "/etc"}, args: "cwd", want: "/etc"},
			{name: "host name", args: "read /proc/sys/kernel/hostname", want: "kimg"},
			{name: "PATH", want: "x",
				p: Process{Args: []string{"helper", "echo", "x"}, Env: []string{"PATH=/nowhere:/bin"}}},
			{name: "relative to Dir", p: Process{Args: []string{"./helper", "echo", "x"}, Dir: "/bin"}, want: "x"},
			{name: "its whole root", args: "ls /", want: "bin\ndev\netc\nproc\nsys\ntmp"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				got, status := run(t, s, tt.p, strings.Fields(tt.args)...)
				if got != tt.want || status != tt.status {
					t.Errorf("got %q and status %d, want %q and %d", got, status, tt.want, tt.status)
				}
			})
		}
	})
}

func TestRunErrors(t *testing.T) {
	s := start(t, Config{})
	for _, tt := range []struct {
		p    Process
		want error
	}{
		{Process{Args: []string{"/bin/none"}}, fs.ErrNotExist},
		{Process{Args: []string{"none"}}, fs.ErrNotExist},
		{Process{Args: []string{"/etc/passwd"}}, fs.ErrPermission},
		{Process{Args: []string{"/bin/helper"}, Dir: "/none"}, fs.ErrNotExist},
	} {
		if _, err := s.Run(tt.p); !errors.Is(err, tt.want) {
			t.Errorf("run %v in %q: %v, want %v", tt.p.Args, tt.p.Dir, err, tt.want)
		}
	}
	for _, p := range []Process{{}, {Args: []string{"/bin/helper"}, Caps: []string{"CAP_CHOWN"}}} {
		if _, err := s.Run(p); err == nil {
			t.Errorf("%+v ran", p)
		}
	}
}

func TestUsers(t *testing.T) {
	ids, err := SubIDs()
	if err != nil {
		t.Skip(err)
	}
	s := start(t, Config{IDs: ids})
	for user, want := range map[string]string{
		"":          "0 0 []",
		"0":         "0 0 []",
		"ann":       "1000 1000 [2000]",
		"1000:7":    "1000 7 []",
		"ann:more":  "1000 2000 []",
		"4242:4343": "4242 4343 []",
	} {
		if got, _ := run(t, s, Process{User: user}, "id"); got != want {
			t.Errorf("user %q: %s, want %s", user, got, want)
		}
	}
	if _, err := s.Run(Process{Args: []string{"/bin/helper"}, User: "nobody-such"}); err == nil {
		t.Error("an unknown user ran")
	}
	if got, _ := run(t, s, Process{User: "ann"}, "env"); got != "HOME=/home/ann" {
		t.Errorf("ann has %s", got)
	}
}

func TestOneIDIsAnyUser(t *testing.T) {
	s := start(t, Config{IDs: OneID(1000, 1001)})
	if got, _ := run(t, s, Process{User: "0:0", Caps: []string{"CHOWN"}}, "id"); !strings.HasPrefix(got, "1000 1001 ") {
		t.Errorf("it is %s", got)
	}
	got, _ := run(t, s, Process{Caps: []string{"CHOWN"}}, "read", "/proc/self/status")
	if !strings.Contains(got, "CapEff:\t0000000000000000") {
		t.Error("another user than root has capabilities")
	}
}

func TestCapabilities(t *testing.T) {
	eachIDs(t, func(t *testing.T, ids IDs) {
		s := start(t, Config{IDs: ids})
		for _, tt := range []struct {
			p    Process
			want string
		}{
			{Process{}, "CapInh 0 CapPrm 0 CapEff 0 CapBnd 0 CapAmb 0 NoNewPrivs 1"},
			{Process{Caps: []string{"CHOWN", "SYS_CHROOT"}},
				"CapInh 0 CapPrm 40001 CapEff 40001 CapBnd 40001 CapAmb 0 NoNewPrivs 1"},
		} {
			status, _ := run(t, s, tt.p, "read", "/proc/self/status")
			var got []string
			for line := range strings.Lines(status) {
				f := strings.Fields(line)
				if strings.HasPrefix(f[0], "Cap") || f[0] == "NoNewPrivs:" {
					v := strings.TrimLeft(f[1], "0")
					if v == "" {
						v = "0"
					}
					got = append(got, strings.TrimSuffix(f[0], ":"), v)
				}
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("caps %v: %s, want %s", tt.p.Caps, got, tt.want)
			}
		}
		status, _ := run(t, s, Process{Privileged: true}, "read", "/proc/self/status")
		filters := "Seccomp_filters:\t0"
		if ids.One() { // the calls that are answered
			filters = "Seccomp_filters:\t1"
		}
		if !strings.Contains(status, "NoNewPrivs:\t0") || !strings.Contains(status, filters) {
			t.Errorf("a privileged process:\n%s", status)
		}
	})
}

func TestSignals(t *testing.T) {
	s := start(t, Config{})
	r, out := begin(t, s, Process{}, "trap")
	line(t, out, "ready")
	if err := r.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if status, err := r.Wait(); status != 7 || err != nil {
		t.Errorf("after SIGTERM: %d, %v", status, err)
	}
	if err := r.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("signal to one that has ended: %v", err)
	}
	r, _ = begin(t, s, Process{}, "sleep")
	if err := r.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if status, err := r.Wait(); status != 128+9 || err != nil {
		t.Errorf("after SIGKILL: %d, %v", status, err)
	}
}

func line(t testing.TB, r io.Reader, want string) {
	t.Helper()
	var got []byte
	b := make([]byte, 1)
	for {
		if _, err := r.Read(b); err != nil {
			t.Fatalf("read %q, want %q: %v", got, want, err)
		}
		if b[0] == '\n' {
			break
		}
		got = append(got, b[0])
	}
	if s := strings.TrimSpace(string(got)); s != want {
		t.Fatalf("read %q, want %q", s, want)
	}
}

func TestKillAll(t *testing.T) {
	s := start(t, Config{})
	if got, _ := run(t, s, Process{}, "orphans"); got != "started" {
		t.Fatal(got)
	}
	r, _ := begin(t, s, Process{}, "sleep")
	if err := s.KillAll(); err != nil {
		t.Fatal(err)
	}
	if status, err := r.Wait(); status != 128+9 || err != nil {
		t.Errorf("%d, %v", status, err)
	}
	got, _ := run(t, s, Process{}, "ls", "/proc")
	var pids []string
	for _, n := range strings.Fields(got) {
		if n[0] >= '0' && n[0] <= '9' {
			pids = append(pids, n)
		}
	}
	if len(pids) != 2 { // pid 1 and ls itself
		t.Errorf("processes are left: %v", pids)
	}
}

func TestCloseEndsAll(t *testing.T) {
	s := start(t, Config{})
	r, _ := begin(t, s, Process{}, "sleep")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Wait(); err == nil {
		t.Error("no error of a process whose sandbox was closed")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Run(Process{Args: []string{"/bin/helper"}}); !errors.Is(err, errEnded) {
		t.Errorf("run after the end: %v", err)
	}
}

func TestTerminal(t *testing.T) {
	eachIDs(t, func(t *testing.T, ids IDs) {
		s := start(t, Config{IDs: ids})
		r, err := s.Run(Process{Args: []string{"/bin/helper", "size"}, TTY: true})
		if err != nil {
			t.Fatal(err)
		}
		defer r.PTY.Close()
		line(t, r.PTY, "0x0")
		if err := r.Resize(33, 101); err != nil {
			t.Fatal(err)
		}
		line(t, r.PTY, "33x101")
		if _, err := r.PTY.Write([]byte{3}); err != nil { // Ctrl-C
			t.Fatal(err)
		}
		if status, err := r.Wait(); status != 128+2 || err != nil {
			t.Errorf("after Ctrl-C: %d, %v", status, err)
		}
		if _, err := io.Copy(io.Discard, r.PTY); !errors.Is(err, syscall.EIO) {
			t.Errorf("the terminal ends with %v", err)
		}
	})
}

func TestMounts(t *testing.T) {
	eachIDs(t, func(t *testing.T, ids IDs) {
		root, dir := newRoot(t), t.TempDir()
		write(t, dir+"/file", []byte("content"), 0o644)
		write(t, dir+"/data/x", []byte("inner"), 0o644)
		if err := os.Symlink("/../../../tmp", root+"/away"); err != nil { // leads to the root's own /tmp
			t.Fatal(err)
		}
		s := start(t, Config{IDs: ids, Root: root, Mounts: []Mount{
			{Source: dir + "/file", Target: "/data/deep/file"}, // below the one that follows
			{Source: dir + "/data", Target: "/data", ReadOnly: false},
			{Source: dir + "/data", Target: "/away/ro", ReadOnly: true},
		}, Tmpfs: map[string]string{"/scratch": "size=1m,mode=711"}})
		for _, tt := range []struct {
			args, want string
			status     int
		}{
			{"read /data/deep/file", "content", 0},
			{"read /data/x", "inner", 0},
			{"read /tmp/ro/x", "inner", 0},
			{"write /tmp/ro/x y", "open /tmp/ro/x: read-only file system", 1},
			{"write /data/y y", "", 0},
			{"stat /scratch", "/scratch 40711 0 0", 0},
			{"write /scratch/f f", "", 0},
		} {
			if got, status := run(t, s, Process{}, strings.Fields(tt.args)...); got != tt.want || status != tt.status {
				t.Errorf("%s: %q, %d, want %q, %d", tt.args, got, status, tt.want, tt.status)
			}
		}
		if b, err := os.ReadFile(dir + "/data/y"); string(b) != "y" {
			t.Errorf("what was written: %q, %v", b, err)
		}
	})
	_, err := Start(t.Context(), Config{IDs: OneID(0, 0), Root: newRoot(t),
		Mounts: []Mount{{Source: "/nowhere/at/all", Target: "/x"}}})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "/nowhere/at/all") {
		t.Errorf("a source that is not there: %v", err)
	}
}

func TestFill(t *testing.T) {
	ids, err := SubIDs()
	if err != nil {
		t.Skip(err)
	}
	root, dir := newRoot(t), temp(t, ids)
	fresh, used := dir+"/fresh", dir+"/used"
	if err := os.Mkdir(fresh, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, used+"/x", nil, 0o644)
	s := start(t, Config{IDs: ids, Root: root})
	for _, args := range [][]string{{"write", "/bin/.keep", ""}, {"chown", "1000:1001", "/tmp"}} {
		if got, status := run(t, s, Process{Caps: []string{"CHOWN"}}, args...); status != 0 {
			t.Fatal(got)
		}
	}
	s.Close()
	s = start(t, Config{IDs: ids, Root: root, Mounts: []Mount{
		{Source: fresh, Target: "/tmp", Fill: true}, {Source: used, Target: "/tmp/used", Fill: true},
	}})
	got, _ := run(t, s, Process{}, "stat", "/tmp", "/tmp/used")
	if want := "/tmp 40755 1000 1001\n/tmp/used 40755 0 0"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestReadOnlyRoot(t *testing.T) {
	s := start(t, Config{ReadOnly: true, Tmpfs: map[string]string{"/tmp": ""}})
	if got, status := run(t, s, Process{}, "write", "/x", ""); status == 0 || !strings.Contains(got, "read-only") {
		t.Errorf("write to the root: %q, %d", got, status)
	}
	if got, status := run(t, s, Process{}, "write", "/tmp/x", ""); status != 0 {
		t.Errorf("write to a tmpfs: %q, %d", got, status)
	}
}

func TestLayer(t *testing.T) {
	eachIDs(t, func(t *testing.T, ids IDs) {
		root, layer := newRoot(t), filepath.Join(temp(t, ids), "a:b,c\\d")
		for i := range 2 {
			s := start(t, Config{IDs: ids, Root: root, Layer: layer})
			if got, status := run(t, s, Process{}, "write", fmt.Sprintf("/bin/new%d", i), "x"); status != 0 {
				t.Fatal(got)
			}
			s.Close()
		}
		s := start(t, Config{IDs: ids, Root: root, Layer: layer})
		if got, _ := run(t, s, Process{}, "ls", "/bin"); got != "helper\nnew0\nnew1" {
			t.Errorf("in the layer: %q", got)
		}
		if _, err := os.Stat(root + "/bin/new0"); err == nil {
			t.Error("the image was written to")
		}
		s.Close()
	})
}

// The root's own directory is the image's: its owner and mode.
func TestLayerRoot(t *testing.T) {
	eachIDs(t, func(t *testing.T, ids IDs) {
		root, layer := newRoot(t), temp(t, ids)+"/layer"
		if err := os.Chmod(root, 0o751); err != nil {
			t.Fatal(err)
		}
		s := start(t, Config{IDs: ids, Root: root, Layer: layer})
		if got, _ := run(t, s, Process{}, "stat", "/"); got != "/ 40751 0 0" {
			t.Error(got)
		}
	})
}

// This user may be root: any other is to have sandboxes, too.
func TestAsOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("it is one")
	}
	program, err := helper()
	if err != nil {
		t.Fatal(err)
	}
	const nobody = 64999 // no system has that one
	dir, err := os.MkdirTemp("", "kimg-user-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	write(t, dir+"/helper", program, 0o755)
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.skip=^TestKilled$")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "HOME="+dir, "KIMG_TEST_HELPER="+dir+"/helper")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestStreamsEnd(t *testing.T) {
	s := start(t, Config{})
	in, inw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, outw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Run(Process{Args: []string{"/bin/helper", "cat"}, Stdin: in, Stdout: outw})
	in.Close()
	outw.Close()
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("x"), 1<<20)
	go func() { inw.Write(want); inw.Close() }()
	got, err := io.ReadAll(out) // ends: nobody else holds the pipe
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if status, err := r.Wait(); status != 0 || err != nil {
		t.Errorf("%d, %v", status, err)
	}
}

func TestManyAtOnce(t *testing.T) {
	s := start(t, Config{})
	var all sync.WaitGroup
	for i := range 30 {
		all.Go(func() {
			if got, status := run(t, s, Process{}, "exit", fmt.Sprint(i)); status != i {
				t.Errorf("%d ended with %d: %s", i, status, got)
			}
		})
	}
	all.Wait()
}
