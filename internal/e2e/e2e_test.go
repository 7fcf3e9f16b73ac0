//go:build linux

// Package e2e proves the main job for real, through the command alone: a kernel
// of a suite's archive is compiled, its root filesystem bootstrapped, booted,
// logged into and stopped at a breakpoint. It must not know how any of it is
// done.
package e2e

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// boot bounds the time to a prompt, under software emulation on a busy machine.
const boot = 8 * time.Minute

// interrupted bounds the time between Ctrl-C and the end of kimg.
const interrupted = 20 * time.Second

// TestMainJob is one story: each part stands on those before it.
func TestMainJob(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: this test compiles, boots and stops a kernel")
	}
	k := newKimg(t)
	eng := findEngine(t, k)
	if k.env != nil {
		eng.dropNewVolumes(t)
	}
	suite := cmp.Or(os.Getenv("KIMG_E2E_SUITE"), "trixie")
	out := filepath.Join(k.dir, "kimg-out")
	build := []string{"build", "--suite", suite, "--config", "vm", "--include", "openssh-server", "--out", out,
		"--progress", "plain"}
	part := func(name string, f func(t *testing.T)) {
		if !t.Run(name, f) {
			t.FailNow()
		}
		if left := append(eng.leftovers(t, k), mounts(t, k.dir)...); len(left) > 0 {
			t.Fatalf("after %q these were left: %q", name, left)
		}
	}

	part("build", func(t *testing.T) {
		r := k.run(t, "", build...).want(t, 0)
		var want []string
		for _, f := range readManifest(t, out).Build.Artifacts {
			if dir, _, below := strings.Cut(f.Path, "/gdb/"); below {
				f.Path = dir + "/gdb"
			}
			if top := filepath.Join(out, f.Path); !slices.Contains(want, top) {
				want = append(want, top)
			}
		}
		if got := strings.Fields(r.stdout); !slices.Equal(got, want) {
			t.Errorf("stdout names %q, want the manifest's %q", got, want)
		}
		for _, name := range []string{"bzImage", "vmlinux", "System.map", "config", "rootfs.img", "vmlinux-gdb.py"} {
			if !slices.Contains(want, filepath.Join(out, name)) {
				t.Errorf("the manifest lacks %s", name)
			}
		}
		verify(t, out)
	})
	part("build again does nothing", func(t *testing.T) {
		before := look(t, out)
		r := k.run(t, "", build...).want(t, 0)
		for line := range strings.Lines(r.stderr) {
			if strings.HasPrefix(line, "done") {
				t.Errorf("a step was run again: %s", line)
			}
		}
		if after := look(t, out); !slices.Equal(before, after) {
			t.Errorf("files changed from\n%q to\n%q", before, after)
		}
		k.run(t, "", append([]string{"plan"}, build[1:]...)...).want(t, 0)
	})
	part("the cache keeps what the build needs", func(t *testing.T) { keptFor(t, k, out) })
	part("image is sound", func(t *testing.T) { soundImage(t, filepath.Join(out, "rootfs.img")) })
	part("export", func(t *testing.T) { handOn(t, k, out) })
	part("sign", func(t *testing.T) { signed(t, k, out) })
	part("run a command", func(t *testing.T) {
		r := k.run(t, "", "run", "--out", out, "--", "uname", "-r").want(t, 0)
		if got, want := strings.TrimSpace(r.stdout), readManifest(t, out).Build.Kernel; got != want {
			t.Errorf("uname -r is %q, the manifest says %q", got, want)
		}
		r = k.run(t, "hello\n", "run", "--out", out, "--", "sh", "-c", "cat; echo oops >&2; exit 7").want(t, 7)
		if r.stdout != "hello\n" || !strings.HasSuffix(r.stderr, "oops\n") {
			t.Errorf("stdout is %q, stderr %q", r.stdout, r.stderr)
		}
		verify(t, out)
	})
	part("log in", func(t *testing.T) {
		cmd, c := k.onTerminal(t, "run", "--out", out, "--cold")
		c.expect("automatic login", boot)
		c.expect("root@kimg:~#", boot)
		c.send("echo size-$(stty size | tr ' ' x) user-$(id -u)\r")
		c.expect("size-40x120 user-0", time.Minute)
		c.send("\x01x") // Ctrl-a x
		c.rest()
		if code := exitCode(t, cmd.Wait()); code != 0 {
			t.Errorf("exit status is %d\n%s", code, c.seen)
		}
		verify(t, out)
	})
	part("log in to a kept guest", func(t *testing.T) {
		k.run(t, "", "run", "--out", out, "--keep", "console").want(t, 0)
		cmd, c := k.onTerminal(t, "run", "--out", out)
		c.expect("root@kimg:~#", boot)
		c.send("\r")
		c.expect("root@kimg:~#", time.Minute)
		c.send("echo term-$TERM- kept-$(dmesg | grep -c 'this guest had booted')-; exit\r") // none with KVM
		c.expect("term-"+os.Getenv("TERM"), time.Minute)
		c.rest()
		if code := exitCode(t, cmd.Wait()); code != 0 {
			t.Errorf("exit status is %d\n%s", code, c.seen)
		}
		seen := string(c.seen)
		if strings.Contains(seen, "no KVM") != strings.Contains(seen, "kept-1-") {
			t.Errorf("an emulated guest goes on, and no other does:\n%s", seen)
		}
		verify(t, out)
	})
	part("stop at a breakpoint", func(t *testing.T) {
		r := k.run(t, "", "check", "--out", out, "--break", "do_sys_open").want(t, 0)
		if !strings.Contains(r.stdout, "do_sys_open") || !strings.Contains(r.stdout, "fs/open.c:") {
			t.Errorf("no backtrace through do_sys_open on stdout:\n%s", r.stdout)
		}
		r = k.run(t, "", "check", "--out", out, "--break", "no_such_function")
		if r.code == 0 || !strings.Contains(r.stderr, "no_such_function") {
			t.Errorf("an unknown symbol ends with status %d:\n%s", r.code, r.stderr)
		}
		verify(t, out)
	})
	part("checks", func(t *testing.T) { checkFile(t, k, out) })
	part("verdicts of kept guests", func(t *testing.T) { sameVerdicts(t, k, out) })
	part("guests", func(t *testing.T) {
		guests(t, k, out)
		verify(t, out)
	})
	part("without a daemon and without root", func(t *testing.T) { withoutRoot(t, k, out, build) })
	part("failures say why", func(t *testing.T) {
		r := k.run(t, "", append(build, "--set", "NO_SUCH_SYMBOL=y")...).want(t, 5)
		if !strings.Contains(r.stderr, "NO_SUCH_SYMBOL") {
			t.Errorf("stderr does not name the symbol:\n%s", r.stderr)
		}
		verify(t, out)
	})
	part("interrupted build", func(t *testing.T) {
		interrupt(t, k, append(build, "--progress", "json", "--set", "LOG_BUF_SHIFT=16"))
		verify(t, out)
		if old, _ := filepath.Glob(filepath.Join(out, "*.kimg-new")); len(old) > 0 {
			t.Errorf("half files are left: %q", old)
		}
	})
}

// interrupt starts a build, sends SIGINT once the compiler runs, and wants kimg
// to end at once and to say so.
func interrupt(t *testing.T, k kimg, args []string) {
	t.Helper()
	cmd := k.command(t, args...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	*k.pids = append(*k.pids, cmd.Process.Pid)
	var sent time.Time
	var last string
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		last = lines.Text()
		var event struct{ Event, Text string }
		compiling := json.Unmarshal(lines.Bytes(), &event) == nil && event.Event == "log" &&
			slices.Contains(strings.Fields(event.Text), "CC")
		if compiling && sent.IsZero() {
			sent = time.Now()
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
		}
	}
	code := exitCode(t, cmd.Wait())
	if sent.IsZero() {
		t.Fatalf("no compiler ran; kimg ended with status %d: %s", code, last)
	}
	if took := time.Since(sent); took > interrupted {
		t.Errorf("it took %v to end", took)
	}
	if code != 130 || last != "kimg: interrupted" {
		t.Errorf("exit status is %d, the last line %q", code, last)
	}
}

// manifest is what this test reads of manifest.json, with a reader of its own.
type manifest struct {
	Build struct {
		Kernel    string
		Artifacts []struct {
			Path   string
			SHA256 string
			Size   int64
		}
	}
}

func readManifest(t *testing.T, out string) manifest {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(out, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m manifest
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// verify compares every artifact with the manifest, and its owner with this user.
func verify(t *testing.T, out string) {
	t.Helper()
	for _, a := range readManifest(t, out).Build.Artifacts {
		f, err := os.Open(filepath.Join(out, a.Path))
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		n, err := io.Copy(h, f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(h.Sum(nil)); got != a.SHA256 || n != a.Size {
			t.Errorf("%s has %d bytes with sha256 %s, the manifest says %d with %s", a.Path, n, got, a.Size, a.SHA256)
		}
		st, err := os.Stat(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if uid := st.Sys().(*syscall.Stat_t).Uid; int(uid) != os.Getuid() {
			t.Errorf("%s belongs to user %d", a.Path, uid)
		}
	}
}

// look is how the files in out look: name and time of each.
func look(t *testing.T, out string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(out, func(name string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		st, err := e.Info()
		if err == nil {
			all = append(all, name+" "+st.ModTime().String())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// soundImage has e2fsprogs judge the image. A missing tool is a skip on a laptop
// and a failure in CI.
func soundImage(t *testing.T, image string) {
	t.Helper()
	for _, tool := range []string{"e2fsck", "debugfs"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is missing: install e2fsprogs", tool)
			}
			t.Skipf("%s is missing: install e2fsprogs", tool)
		}
	}
	if text, err := exec.Command("e2fsck", "-fn", image).CombinedOutput(); err != nil {
		t.Errorf("e2fsck -fn: %v\n%s", err, text)
	}
	dropIn := "/etc/systemd/system/serial-getty@ttyS0.service.d"
	text, err := exec.Command("debugfs", "-R", "ls -p "+dropIn, image).Output()
	if err != nil || !strings.Contains(string(text), ".conf/") {
		t.Errorf("no autologin drop-in in %s: %v\n%s", dropIn, err, text)
	}
}
