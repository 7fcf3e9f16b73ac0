//go:build amd64 || arm64

package foreign

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// program compiles the program of the tests, once; KIMG_TEST_PROGRAM names one where there is no Go.
var program = sync.OnceValues(func() ([]byte, error) {
	if name := os.Getenv("KIMG_TEST_PROGRAM"); name != "" {
		return os.ReadFile(name)
	}
	dir, err := os.MkdirTemp("", "kimg-program-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "program")
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", out, "./testdata/program")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, msg)
	}
	return os.ReadFile(out)
})

// noMachine is an architecture that there is not, which no kernel runs.
const noMachine = `\x34\x12`

// alien is a program of it.
var alien = append([]byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x34\x12"),
	make([]byte, 300)...)

// room is a directory with an emulator, programs and scripts.
type room struct {
	t       *testing.T
	dir     string
	machine string       // of the programs that are emulated
	seen    bytes.Buffer // stderr of what was run
}

func newRoom(t *testing.T) *room {
	t.Helper()
	p, err := program()
	if err != nil {
		t.Fatal(err)
	}
	r := &room{t: t, dir: t.TempDir(), machine: noMachine}
	if err := os.Chmod(r.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r.put("emulator", p, 0o755)
	r.put("native", p, 0o755)
	r.put("alien", alien, 0o755)
	return r
}

func (r *room) path(name string) string { return filepath.Join(r.dir, name) }

func (r *room) put(name string, content []byte, mode os.FileMode) {
	r.t.Helper()
	if err := os.MkdirAll(filepath.Dir(r.path(name)), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(r.path(name), content, mode); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Chmod(r.path(name), mode); err != nil {
		r.t.Fatal(err)
	}
}

func (r *room) script(name, line string) { r.put(name, []byte(line), 0o755) }

// cmd is a command under the tracer, in the room.
func (r *room) cmd(args ...string) *exec.Cmd {
	format := `:kimg:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00` + r.machine + ":" +
		strings.Repeat(`\xff`, 7) + `\x00` + strings.Repeat(`\xff`, 8) + `\xfe\xff\xff\xff:` +
		r.path("emulator") + ":PF"
	cmd := exec.Command("/proc/self/exe", append([]string{format}, args...)...)
	cmd.Args[0], cmd.Dir = Name, r.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=0"}
	cmd.Stderr = &r.seen
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	return cmd
}

// run runs a command to its end, and returns what it prints, with DIR for the room, and its status.
func (r *room) run(args ...string) (out string, status int) {
	r.t.Helper()
	r.seen.Reset()
	cmd := r.cmd(args...)
	b, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		r.t.Fatal(err)
	}
	return strings.ReplaceAll(string(b), r.dir, "DIR"), cmd.ProcessState.ExitCode()
}

// TestExec has the emulator called as binfmt_misc with the flag P would call it, but for the options that say so, and
// leaves all else to the kernel.
func TestExec(t *testing.T) {
	r := newRoom(t)
	r.script("script", "#!"+r.path("alien")+"\n")
	r.script("option", "#! "+r.path("alien")+"  an option \t\nmore\n")
	r.script("outer", "#!"+r.path("option")+" x\n")
	r.script("lame", "#!alien\n")
	r.script("own", "#!/bin/sh\nexec ./alien of sh\n")
	for i := range 6 {
		r.script(fmt.Sprintf("deep%d", i+1), fmt.Sprintf("#!deep%d\n", i))
	}
	r.script("deep0", "#!alien\n")
	r.script("lost", "#!/there/is/none\n")
	r.script("empty", "#!\n")
	r.put("closed", alien, 0o644)
	r.put("short", alien[:12], 0o755)
	r.put("dir/alien", alien, 0o755)
	if err := os.Symlink("alien", r.path("link")); err != nil {
		t.Fatal(err)
	}
	native, emptyPath := r.path("native"), strconv.Itoa(unix.AT_EMPTY_PATH)
	for _, c := range []struct {
		name   string
		args   []string
		want   string
		status int
	}{
		{"absolute", []string{r.path("alien"), "a", "b c", ""}, `["-0" "DIR/alien" "DIR/alien" "a" "b c" ""]`, 0},
		{"relative", []string{"./alien"}, `["-0" "./alien" "./alien"]`, 0},
		{"another argv[0]", []string{native, "execat", ".", "alien", "0", "zero", "one"},
			`["-0" "zero" "/dev/fd/9/alien" "one"]`, 0},
		{"no argument at all", []string{native, "noargs", "alien"}, `["-0" "" "alien"]`, 0},
		{"execveat, absolute", []string{native, "execat", "/", r.path("alien"), "0", "zero"},
			`["-0" "zero" "DIR/alien"]`, 0},
		{"execveat of a descriptor", []string{native, "execat", "alien", "", emptyPath, "zero", "x"},
			`["-0" "zero" "/dev/fd/9" "x"]`, 0},
		{"execveat that follows no link", []string{native, "execat", ".", "link", "256", "zero"},
			"execveat: " + unix.ELOOP.Error(), 99},
		{"a link", []string{"./link"}, `["-0" "./link" "./link"]`, 0},
		{"up and down", []string{"dir/../dir/alien"}, `["-0" "dir/../dir/alien" "dir/../dir/alien"]`, 0},
		{"a script", []string{"./script", "a"}, `["-0" "DIR/alien" "DIR/alien" "./script" "a"]`, 0},
		{"a script's option", []string{"./option", "a"},
			`["-0" "DIR/alien" "DIR/alien" "an option" "./option" "a"]`, 0},
		{"a script of a script", []string{"./outer", "a"},
			`["-0" "DIR/alien" "DIR/alien" "an option" "DIR/option" "x" "./outer" "a"]`, 0},
		{"a relative interpreter", []string{"./lame"}, `["-0" "alien" "alien" "./lame"]`, 0},
		{"a script by its directory", []string{native, "execat", "dir/..", "lame", "0", "zero", "x"},
			`["-0" "alien" "alien" "/dev/fd/9/lame" "x"]`, 0},
		{"of a native script", []string{"./own"}, `["-0" "./alien" "./alien" "of" "sh"]`, 0},
		{"as many scripts as may be", []string{"./deep3"},
			`["-0" "alien" "alien" "deep0" "deep1" "deep2" "./deep3"]`, 0},
		{"one more", []string{native, "exec", "./deep4"}, "exec: " + unix.ENOEXEC.Error(), 99},
		{"far more", []string{native, "exec", "./deep6"}, "exec: " + unix.ELOOP.Error(), 99},
		{"no interpreter", []string{native, "exec", "./lost"}, "exec: " + unix.ENOENT.Error(), 99},
		{"no line", []string{native, "exec", "./empty"}, "exec: " + unix.ENOEXEC.Error(), 99},
		{"not executable", []string{native, "exec", "./closed"}, "exec: " + unix.EACCES.Error(), 99},
		{"not there", []string{native, "exec", "./none"}, "exec: " + unix.ENOENT.Error(), 99},
		{"a directory", []string{native, "exec", "./dir"}, "exec: " + unix.EACCES.Error(), 99},
		{"no program", []string{native, "exec", "./short"}, "exec: " + unix.ENOEXEC.Error(), 99},
		{"emulated, executes another", []string{"./alien", "do", "exec", "./alien", "do", "exit", "3"},
			`["-0" "./alien" "./alien" "do" "exec" "./alien" "do" "exit" "3"]` + "\n" +
				`["-0" "./alien" "./alien" "do" "exit" "3"]`, 3},
		{"by another thread", []string{"./alien", "do", "thread", "./alien", "x"},
			`["-0" "./alien" "./alien" "do" "thread" "./alien" "x"]` + "\n" + `["-0" "./alien" "./alien" "x"]`, 0},
		{"sh's vfork", []string{"/bin/sh", "-c", "./alien a; ./alien b | cat; exit 4"},
			`["-0" "./alien" "./alien" "a"]` + "\n" + `["-0" "./alien" "./alien" "b"]`, 4},
		{"many arguments", []string{native, "many", "5000", "./alien", "argument"},
			`5003: ["-0" "./alien" "./alien" "argument" "argument"] ["argument"]`, 0},
		{"a great many", []string{native, "many", "100000", "./alien", "argument"},
			`100003: ["-0" "./alien" "./alien" "argument" "argument"] ["argument"]`, 0},
		{"long ones", []string{native, "spawn", "20", "./alien", strings.Repeat("x", 100_000)}, "spawned", 0},
		{"a signal", []string{"./alien", "do", "die", "9"}, `["-0" "./alien" "./alien" "do" "die" "9"]`, 128 + 9},
		{"no command", []string{"./none"}, "", notFound},
	} {
		out, status := r.run(c.args...)
		if strings.TrimSuffix(out, "\n") != c.want || status != c.status {
			t.Errorf("%s: status %d, want %d; it printed\n%swant\n%s\n%s", c.name, status, c.status, out, c.want,
				r.seen.String())
		}
	}
}

// A thousand executions by clones that share memory, each waited for.
func TestManyExecs(t *testing.T) {
	r := newRoom(t)
	out, status := r.run(r.path("native"), "spawn", "1000", "./alien", "x", "y")
	if out != "spawned\n" || status != 0 {
		t.Errorf("status %d: %s%s", status, out, r.seen.String())
	}
}

// TestRoot has programs run in another root, by a copy of the emulator that is the same one each time, and made anew
// where it is no longer.
func TestRoot(t *testing.T) {
	r := newRoom(t)
	r.put("tree/bin/alien", alien, 0o755)
	r.put("tree/bin/script", []byte("#!/bin/alien\n"), 0o755)
	p, _ := program()
	r.put("tree/bin/native", p, 0o755)
	if err := os.Mkdir(r.path("tree/dev"), 0o755); err != nil {
		t.Fatal(err)
	}
	in := []string{r.path("native"), "chroot", r.path("tree")}
	const copied = "/dev/." + Name + ".emulator"
	out, status := r.run(append(in, "/bin/alien", "do", "exec", "/bin/script", "do", "exec", "../bin/alien", "z")...)
	want := `["-0" "/bin/alien" "/bin/alien" "do" "exec" "/bin/script" "do" "exec" "../bin/alien" "z"]
["-0" "/bin/alien" "/bin/alien" "/bin/script" "do" "exec" "../bin/alien" "z"]
["-0" "../bin/alien" "../bin/alien" "z"]
`
	if out != want || status != 0 {
		t.Errorf("status %d: %s%s", status, out, r.seen.String())
	}
	if b, err := os.ReadFile(r.path("tree" + copied)); err != nil || !bytes.Equal(b, p) {
		t.Errorf("%v: the emulator's copy has %d bytes", err, len(b))
	}
	r.put("tree"+copied, []byte("#!/bin/false\n"), 0o755) // of another tracer, or nobody knows whom
	if out, status = r.run(append(in, "/bin/alien")...); out != `["-0" "/bin/alien" "/bin/alien"]`+"\n" || status != 0 {
		t.Errorf("status %d: %s%s", status, out, r.seen.String())
	}
	// Where it cannot be put, that is said, and no shell takes the program for a script.
	if err := os.RemoveAll(r.path("tree/dev")); err != nil {
		t.Fatal(err)
	}
	out, status = r.run(append(in, "/bin/native", "exec", "/bin/alien")...)
	if out != "exec: "+unix.EFAULT.Error()+"\n" || status != 99 ||
		!strings.Contains(r.seen.String(), "E: kimg-trace: have process ") ||
		!strings.Contains(r.seen.String(), "run /bin/alien by "+r.path("emulator")) {
		t.Errorf("status %d: %s%s", status, out, r.seen.String())
	}
}

// Users that the tracer is not are traced as well, and may execute what they may.
func TestUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("there is one user in this test's namespace")
	}
	r := newRoom(t)
	for dir := r.dir; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, mode := range []os.FileMode{0o700, 0o750, 0o755} {
		r.put(fmt.Sprintf("%o", mode), alien, mode)
	}
	if err := os.Chown(r.path("750"), 0, 1234); err != nil {
		t.Fatal(err)
	}
	denied := "exec: " + unix.EACCES.Error() + "\n"
	for _, c := range []struct{ user, file, want string }{
		{"1234", "755", `["-0" "./755" "./755"]` + "\n"},
		{"1234", "750", `["-0" "./750" "./750"]` + "\n"},
		{"1235", "750", denied},
		{"1234", "700", denied},
	} {
		if out, _ := r.run(r.path("native"), "setuid", c.user, "./"+c.file); out != c.want {
			t.Errorf("user %s, %s: %s%s", c.user, c.file, out, r.seen.String())
		}
	}
}

// start starts a command that waits for a signal, and returns it and the process that waits.
func (r *room) start(args ...string) (cmd *exec.Cmd, out *bytes.Buffer, pid int) {
	r.t.Helper()
	out = &bytes.Buffer{}
	cmd = r.cmd(args...)
	cmd.Stdout = out
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = cmd.Process.Kill() })
	r.until("a process waits for its signal", func() bool {
		b, err := os.ReadFile(r.path("pid"))
		pid, _ = strconv.Atoi(string(b))
		return err == nil && pid > 0
	})
	return cmd, out, pid
}

func (r *room) until(what string, is func() bool) {
	r.t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("never came true: %s; %s", what, r.seen.String())
		}
	}
}

// state is the letter of a process's state; 0: it is gone.
func state(pid int) byte {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	return b[bytes.LastIndexByte(b, ')')+2]
}

// TestSignals has signals reach a process, stops last until they are ended, and a signal for the tracer be the
// command's.
func TestSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{unix.SIGUSR1, unix.SIGTERM} {
		r := newRoom(t)
		cmd, out, pid := r.start("./alien", "do", "wait", "pid")
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		r.until("it is stopped", func() bool { s := state(pid); return s == 't' || s == 'T' })
		to := pid
		if sig == unix.SIGTERM {
			to = cmd.Process.Pid
		}
		if err := unix.Kill(to, sig); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
		if s := state(pid); s != 't' && s != 'T' {
			t.Errorf("%v: it goes on before SIGCONT: %c", sig, s)
		}
		if err := unix.Kill(pid, unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil || !strings.HasSuffix(out.String(), "\n"+sig.String()+"\n") {
			t.Errorf("%v: %v: %s", sig, err, out)
		}
	}
}

// TestEnd has nothing go on when the command has ended, or when the tracer was killed.
func TestEnd(t *testing.T) {
	t.Run("command", func(t *testing.T) {
		r := newRoom(t)
		cmd, _, pid := r.start("/bin/sh", "-c", "./alien do wait pid & until test -s pid; do sleep 0.01; done; exit 5")
		if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 5 {
			t.Errorf("%v", cmd.ProcessState)
		}
		r.until("what it left is gone", func() bool { s := state(pid); return s == 0 || s == 'Z' })
	})
	t.Run("tracer", func(t *testing.T) {
		r := newRoom(t)
		cmd, _, pid := r.start("/bin/sh", "-c", "./alien do wait pid; exit 5")
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		r.until("what it traced is gone", func() bool { s := state(pid); return s == 0 || s == 'Z' })
	})
	t.Run("in the middle", func(t *testing.T) {
		r := newRoom(t)
		cmd, _, pid := r.start("/bin/sh", "-c", "./alien do wait pid; exit $?")
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 128+9 {
			t.Errorf("%v", cmd.ProcessState)
		}
	})
}

// TestKillAll has kill(-1) end all processes of a pid namespace but the tracer and who asks.
func TestKillAll(t *testing.T) {
	r := newRoom(t)
	const line = `sleep 1000 & other=$!; ./native killall 0; kill -KILL -1; wait $other; echo $?
		while kill -KILL -1 2>/dev/null; do sleep 0.01; done; echo alone; exec ./native killall 9`
	cmd := r.cmd()
	// A namespace of its own, with its /proc; sh is its pid 1, and another one the tracer's caller.
	shell := exec.Command("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "sh", "-c",
		`"$0" "$@"; echo "status $?"`)
	tracer := filepath.Join(r.dir, Name)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	r.put(Name, self, 0o755)
	shell.Args = append(shell.Args, tracer, cmd.Args[1], "/bin/sh", "-c", line)
	shell.Env, shell.Dir = cmd.Env, r.dir
	shell.Stderr = &r.seen
	out, err := shell.Output()
	want := "kill: <nil>\n137\nalone\nkill: " + unix.ESRCH.Error() + "\nstatus 0\n"
	if err != nil || string(out) != want {
		t.Errorf("%v: %s%s", err, out, r.seen.String())
	}
}

// TestQEMU has real programs of another architecture run by the real emulator, where this machine has one: a program
// that executes others by its path and by /proc/self/exe, and a script of it.
func TestQEMU(t *testing.T) {
	of, machine := "arm64", `\xb7\x00`
	if runtime.GOARCH == of {
		of, machine = "amd64", `\x3e\x00`
	}
	name := map[string]string{"arm64": "qemu-aarch64", "amd64": "qemu-x86_64"}[of]
	emulator, err := exec.LookPath(name + "-static")
	if err != nil {
		if emulator, err = exec.LookPath(name); err != nil {
			t.Skip("there is no " + name + " of qemu-user here")
		}
	}
	r := newRoom(t)
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", r.path("foreign"), "./testdata/program")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOARCH="+of)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("no Go for %s here: %v: %s", of, err, out)
	}
	b, err := os.ReadFile(emulator)
	if err != nil {
		t.Fatal(err)
	}
	r.put("emulator", b, 0o755)
	r.machine = machine
	r.script("script", "#!"+r.path("foreign")+" exit\n") // with its own path for a number: an error of the program's
	for _, c := range []struct {
		args   []string
		want   string
		status int
	}{
		{[]string{"./foreign", "exec", "./foreign", "exec", "/proc/self/exe", "exit", "7"}, "", 7},
		{[]string{"./foreign", "spawn", "3", "./foreign", "exit", "0"}, "spawned\n", 0},
		{[]string{"./foreign", "thread", "./foreign", "exit", "8"}, "", 8},
		{[]string{"./foreign", "exec", "/bin/sh", "-c", "exec ./foreign exit 9"}, "", 9},
		{[]string{"./foreign", "exec", "./none"}, "exec: " + unix.ENOENT.Error() + "\n", 99},
		{[]string{"./script"}, `strconv.Atoi: parsing "./script": invalid syntax` + "\n", 99},
		{[]string{"./foreign", "die", "15"}, "", 128 + 15},
	} {
		if out, status := r.run(c.args...); out != c.want || status != c.status {
			t.Errorf("%q: status %d, want %d: %s%s", c.args, status, c.status, out, r.seen.String())
		}
	}
}
