package guest_test

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kimg/kimg/internal/guest"
)

// ports is a guest of files: a terminal is the control port, being a device that
// is read and written through one path, and named pipes are the others.
type ports struct {
	t             *testing.T
	control       *os.File
	lines         *bufio.Reader
	stdin         *os.File
	stdout        *os.File
	stderr        *os.File
	root, winsize string
}

// start runs the agent on this machine, under each shell that there is.
func start(t *testing.T, shell string) *ports {
	t.Helper()
	return startIn(t, shell, t.TempDir())
}

// startIn starts it in a root that may have files already. The agent says before
// and then that it is ready.
func startIn(t *testing.T, shell, root string, before ...string) *ports {
	t.Helper()
	p := &ports{t: t, root: root, winsize: filepath.Join(root, "run/kimg/winsize")}
	must(t, os.MkdirAll(filepath.Join(root, "dev"), 0o755))
	for i, name := range []string{guest.Control, guest.Stdin, guest.Stdout, guest.Stderr} {
		dev := fmt.Sprintf("vport1p%d", i+1)
		dir := filepath.Join(root, "sys/class/virtio-ports", dev)
		must(t, os.MkdirAll(dir, 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "name"), []byte(name+"\n"), 0o644))
		path := filepath.Join(root, "dev", dev)
		if name == guest.Control {
			var slave string
			p.control, slave = openPTY(t)
			must(t, os.Symlink(slave, path))
			continue
		}
		must(t, syscall.Mkfifo(path, 0o600))
		f, err := os.OpenFile(path, os.O_RDWR, 0) // both sides: opening never waits
		must(t, err)
		t.Cleanup(func() { f.Close() })
		*map[string]**os.File{guest.Stdin: &p.stdin, guest.Stdout: &p.stdout, guest.Stderr: &p.stderr}[name] = f
	}
	p.lines = bufio.NewReader(p.control)
	script := filepath.Join(root, "agent")
	must(t, os.WriteFile(script, guest.Files()[0].Data, 0o755))
	cmd := exec.Command(shell, script)
	cmd.Env = append(os.Environ(), "KIMG_ROOT="+root)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(t, cmd.Start())
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
	})
	for _, line := range before {
		p.expect(line)
	}
	p.expect("ready 1")
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// openPTY returns the master of a raw terminal and the name of its slave (pts(4)).
func openPTY(t *testing.T) (*os.File, string) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	must(t, err)
	master := os.NewFile(uintptr(fd), "ptmx")
	t.Cleanup(func() { master.Close() })
	must(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	must(t, err)
	state, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	must(t, err)
	state.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG
	state.Oflag &^= unix.OPOST
	must(t, unix.IoctlSetTermios(fd, unix.TCSETS, state))
	name := "/dev/pts/" + strconv.Itoa(n)
	slave, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0) // a master without a slave reads EIO
	must(t, err)
	t.Cleanup(func() { slave.Close() })
	return master, name
}

func (p *ports) say(format string, args ...any) {
	p.t.Helper()
	_, err := fmt.Fprintf(p.control, format+"\n", args...)
	must(p.t, err)
}

func (p *ports) expect(want string) {
	p.t.Helper()
	must(p.t, p.control.SetReadDeadline(time.Now().Add(20*time.Second)))
	line, err := p.lines.ReadString('\n')
	if err != nil || strings.TrimSuffix(line, "\n") != want {
		p.t.Fatalf("the agent said %q (%v), want %q", line, err, want)
	}
}

// until reads a port up to the mark.
func (p *ports) until(f *os.File, mark string) string {
	p.t.Helper()
	must(p.t, f.SetReadDeadline(time.Now().Add(20*time.Second)))
	var got []byte
	buf := make([]byte, 64<<10)
	for !strings.HasSuffix(string(got), mark) {
		n, err := f.Read(buf)
		if err != nil {
			p.t.Fatalf("after %q: %v", got, err)
		}
		got = append(got, buf[:n]...)
	}
	return strings.TrimSuffix(string(got), mark)
}

func (p *ports) run(mark, script string) {
	p.t.Helper()
	p.say("run %s %s", mark, base64.StdEncoding.EncodeToString([]byte(script)))
}

// shells runs a test under every shell that may be a guest's /bin/sh.
func shells(t *testing.T, test func(*testing.T, *ports)) {
	if _, err := exec.LookPath("setsid"); err != nil {
		t.Skip("the agent is Linux's: ", err)
	}
	for _, shell := range []string{"dash", "bash"} {
		if _, err := exec.LookPath(shell); err == nil {
			t.Run(shell, func(t *testing.T) { test(t, start(t, shell)) })
		}
	}
}

func TestStreamsAndStatus(t *testing.T) {
	shells(t, func(t *testing.T, p *ports) {
		every := make([]byte, 256)
		for i := range every {
			every[i] = byte(i)
		}
		input := strings.Repeat(string(every), 4)
		p.run("MARK", fmt.Sprintf("head -c %d; echo complaint >/dev/stderr; exit 7", len(input)))
		_, err := io.WriteString(p.stdin, "\n"+input)
		must(t, err)
		if got := p.until(p.stdout, "MARK"); got != input {
			t.Errorf("stdout is %q", got)
		}
		if got := p.until(p.stderr, "MARK"); got != "complaint\n" {
			t.Errorf("stderr is %q", got)
		}
		p.expect("exit 7")
	})
}

// A process that a command leaves behind, holding its output, holds nothing up.
func TestLeftBehind(t *testing.T) {
	shells(t, func(t *testing.T, p *ports) {
		p.run("M1", "sleep 60 & echo one")
		if got := p.until(p.stdout, "M1"); got != "one\n" {
			t.Errorf("stdout is %q", got)
		}
		p.expect("exit 0")
		p.run("M2", "echo two")
		if got := p.until(p.stdout, "M2"); got != "two\n" {
			t.Errorf("stdout is %q", got)
		}
		p.expect("exit 0")
	})
}

func TestSignal(t *testing.T) {
	shells(t, func(t *testing.T, p *ports) {
		p.run("M1", "trap 'echo caught; exit 3' INT; echo set; while :; do sleep 0.1; done")
		p.until(p.stdout, "set\n")
		p.say("signal INT")
		if got := p.until(p.stdout, "M1"); got != "caught\n" {
			t.Errorf("stdout is %q", got)
		}
		p.expect("exit 3")
		p.run("M2", "exec sleep 60")
		p.say("signal INT")
		p.expect("exit 130")
		if got := p.until(p.stderr, "M1M2"); got != "" {
			t.Errorf("stderr has %q, which is not the command's", got)
		}
	})
}

func TestPingWhileACommandRuns(t *testing.T) {
	shells(t, func(t *testing.T, p *ports) {
		p.say("ping")
		p.expect("pong")
		p.run("M", "read -r line; exit 4")
		p.say("ping")
		p.expect("pong")
		_, err := io.WriteString(p.stdin, "\nline\n")
		must(t, err)
		p.expect("exit 4")
	})
}

// What the host says is checked: it reaches a shell.
func TestWinsize(t *testing.T) {
	shells(t, func(t *testing.T, p *ports) {
		p.say("winsize 24 $(touch%s/pwned)", p.root)
		p.say("winsize 24 100000")
		p.say("signal KILL;id")
		p.say("nonsense")
		p.say("winsize 24 80")
		p.say("ping")
		p.expect("pong")
		got, err := os.ReadFile(p.winsize)
		must(t, err)
		if string(got) != "24 80\n" {
			t.Errorf("the size is %q", got)
		}
	})
}

// The words for the shares reach mount, whatever is in them; what mount refuses,
// the host is told once the agent is there.
func TestShares(t *testing.T) {
	for _, shell := range []string{"dash", "bash"} {
		if _, err := exec.LookPath(shell); err != nil {
			continue
		}
		t.Run(shell, func(t *testing.T) {
			root, bin := t.TempDir(), t.TempDir()
			must(t, os.MkdirAll(filepath.Join(root, "proc"), 0o755))
			good, bad := filepath.Join(root, "a b,*:$(id)"), filepath.Join(root, "refused")
			word := func(tag, mode, dir string) string {
				return guest.ShareWord + tag + "," + mode + "," + base64.StdEncoding.EncodeToString([]byte(dir))
			}
			line := "root=/dev/vda * " + word("kimg0", "ro", good) + " quiet " + word("kimg1", "rw", bad) + "\n"
			must(t, os.WriteFile(filepath.Join(root, "proc/cmdline"), []byte(line), 0o644))
			mount := "#!/bin/sh\nprintf '%s\\n' \"$@\" >>" + root + "/mounts\ncase $* in *refused) exit 32 ;; esac\n"
			must(t, os.WriteFile(filepath.Join(bin, "mount"), []byte(mount), 0o755))
			// The agent sets PATH itself, as nobody else would in a guest.
			text := strings.Replace(string(guest.Files()[0].Data), "\nPATH=", "\nPATH="+bin+":", 1)
			script := filepath.Join(bin, "agent")
			must(t, os.WriteFile(script, []byte(text), 0o755))
			cmd := exec.Command(shell, script, "shares")
			cmd.Env = append(os.Environ(), "KIMG_ROOT="+root)
			out, err := cmd.CombinedOutput()
			must(t, err)
			if !strings.Contains(string(out), "kimg: mount the shared directory at "+bad) {
				t.Errorf("the console says %q", out)
			}
			got, err := os.ReadFile(filepath.Join(root, "mounts"))
			must(t, err)
			const options = "trans=virtio,version=9p2000.L,msize=262144,cache=mmap,"
			want := strings.Join([]string{"-t", "9p", "-o", options + "ro", "kimg0", good,
				"-t", "9p", "-o", options + "rw", "kimg1", bad}, "\n") + "\n"
			if string(got) != want {
				t.Errorf("mount was told\n%swant\n%s", got, want)
			}
			startIn(t, shell, root, "fault mount the shared directory at "+bad)
		})
	}
}

// The keys reach sshd's files, which are nobody's but root's, before the guest says so.
func TestKeys(t *testing.T) {
	for _, shell := range []string{"dash", "bash"} {
		if _, err := exec.LookPath(shell); err != nil {
			continue
		}
		t.Run(shell, func(t *testing.T) {
			root := t.TempDir()
			for name, text := range map[string]string{
				"sys/class/virtio-ports/vport1p1/name": guest.Keys + "\n",
				"etc/ssh/sshd_config":                  "Port 22\n",
			} {
				must(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755))
				must(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o644))
			}
			must(t, os.MkdirAll(filepath.Join(root, "dev"), 0o755))
			host, slave := openPTY(t)
			must(t, os.Symlink(slave, filepath.Join(root, "dev/vport1p1")))
			script := filepath.Join(root, "agent")
			must(t, os.WriteFile(script, guest.Files()[0].Data, 0o755))
			cmd := exec.Command(shell, script, "keys")
			cmd.Env, cmd.Stderr = append(os.Environ(), "KIMG_ROOT="+root), os.Stderr
			must(t, cmd.Start())
			const key = "-----BEGIN KEY-----\n$(id)\n-----END KEY-----\n"
			_, err := fmt.Fprintf(host, "host_key %s\n../escape %[1]s\nauthorized_keys %s\nend\n",
				base64.StdEncoding.EncodeToString([]byte(key)),
				base64.StdEncoding.EncodeToString([]byte("ssh-ed25519 AAAA\n")))
			must(t, err)
			must(t, host.SetReadDeadline(time.Now().Add(20*time.Second)))
			if line, err := bufio.NewReader(host).ReadString('\n'); line != "taken\n" {
				t.Errorf("the guest said %q, %v", line, err)
			}
			must(t, cmd.Wait())
			dir := filepath.Join(root, "run/kimg/ssh")
			for name, want := range map[string]string{
				"host_key": key, "authorized_keys": "ssh-ed25519 AAAA\n",
				"options": "SSHD_OPTS=-f " + dir + "/sshd_config\n",
				"sshd_config": "HostKey " + dir +
					"/host_key\nAuthorizedKeysFile .ssh/authorized_keys .ssh/authorized_keys2 " +
					dir + "/authorized_keys\nPort 22\n",
			} {
				got, err := os.ReadFile(filepath.Join(dir, name))
				if err != nil || string(got) != want {
					t.Errorf("%s is %q, %v", name, got, err)
				}
				if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Mode().Perm() != 0o600 {
					t.Errorf("%s: mode %v", name, info.Mode())
				}
			}
			if left, _ := os.ReadDir(filepath.Dir(dir)); len(left) != 1 {
				t.Errorf("%v", left)
			}
		})
	}
}

// The agent says that it can rest where its helper is. A helper that cannot renew the guest's entropy or set its clock
// says so before the guest is kept.
func TestRestless(t *testing.T) {
	perl, err := exec.LookPath("perl")
	if err != nil {
		t.Skip("no perl")
	}
	out, err := exec.Command(perl, "-w", restScript(t), "vax").CombinedOutput()
	if err != nil || string(out) != "restless set the clock of vax\n" {
		t.Errorf("%q, %v", out, err)
	}
}

// restScript is the agent's helper.
func restScript(t *testing.T) string {
	t.Helper()
	script := filepath.Join(t.TempDir(), "rest")
	for _, f := range guest.Files() {
		if f.Path == "/usr/lib/kimg/rest" {
			must(t, os.WriteFile(script, f.Data, 0o700))
		}
	}
	return script
}

// The first command of a guest that goes on is run by the helper, whose shell waits for it: with its streams, its exit
// status, and the agent's words for a command that there is not. Then the agent is as it was.
func TestRestRunsTheFirstCommand(t *testing.T) {
	perl, err := exec.LookPath("perl")
	if err != nil {
		t.Skip("no perl")
	}
	for script, want := range map[string]struct{ stdout, stderr, exit string }{
		"read -r a; cat; echo $a":                             {"two\none\n", "", "0"},
		"echo out; echo err >&2; exit 3":                      {"out\n", "err\n", "3"},
		"exec 'nothing of this name'":                         {"", "exec: nothing of this name: not found\n", "127"},
		"kill -TERM $$":                                       {"", "", "143"},
		"cat >/dev/null; trap - INT; sleep 60":                {"", "", "130"}, // by a signal of the host's
		"# " + strings.Repeat("long ", 30000) + "\necho well": {"well\n", "", "0"},
	} {
		root := t.TempDir()
		for _, dir := range []string{"run/kimg", "etc", "dev", "sys/class/virtio-ports/vport1p2"} {
			must(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
		}
		name := filepath.Join(root, "sys/class/virtio-ports/vport1p2/name")
		must(t, os.WriteFile(name, []byte("kimg.stdin\n"), 0o644))
		p := &ports{t: t, root: root}
		for name, to := range map[string]**os.File{
			"run/kimg/out": &p.stdout, "run/kimg/err": &p.stderr, "dev/vport1p2": &p.stdin} {
			must(t, syscall.Mkfifo(filepath.Join(root, name), 0o600))
			*to, err = os.OpenFile(filepath.Join(root, name), os.O_RDWR, 0)
			must(t, err)
		}
		var slave string
		p.control, slave = openPTY(t)
		p.lines = bufio.NewReader(p.control)
		control, err := os.OpenFile(slave, os.O_RDWR|syscall.O_NOCTTY, 0)
		must(t, err)
		cmd := exec.Command(perl, "-w", restScript(t), "x86_64")
		cmd.Env = append(os.Environ(), "KIMG_ROOT="+root)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = control, control, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		must(t, cmd.Start())
		t.Cleanup(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		p.expect("resting")
		p.say("wake 1 2 00ff 33 5")
		p.expect("ready 1")
		p.say("ping")
		p.expect("pong")
		p.run("MARK", script)
		_, err = p.stdin.WriteString("\none\ntwo\n")
		must(t, err)
		if want.exit == "130" {
			p.say("ping")
			p.expect("pong")
			// As the agent does ("heed"), which is not installed here.
			pid := filepath.Join(root, "run/kimg/pid")
			var b []byte
			for len(b) == 0 {
				b, _ = os.ReadFile(pid)
			}
			n, err := strconv.Atoi(strings.TrimSpace(string(b)))
			must(t, err)
			must(t, syscall.Kill(-n, syscall.SIGINT))
		}
		must(t, p.stdin.Close()) // the end of the input
		p.expect("exit " + want.exit)
		if got := p.until(p.stdout, "MARK"); got != want.stdout {
			t.Errorf("%.40q: stdout %q", script, got)
		}
		if got := p.until(p.stderr, "MARK"); !strings.HasSuffix(got, want.stderr) || want.stderr == "" && got != "" {
			t.Errorf("%.40q: stderr %q", script, got)
		}
		must(t, cmd.Wait())
	}
}
