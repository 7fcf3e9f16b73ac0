//go:build linux && (amd64 || arm64)

package owners

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write the golden files anew: what the kernel tells real root")

const (
	programName = "owners-program" // argv[0] of a program under test
	insideEnv   = "KIMG_OWNERS_INSIDE"
	kernelEnv   = "KIMG_OWNERS_KERNEL" // a directory of what the kernel told real root
)

// The main thread never ends: a goroutine that leaves its thread to its fate must not have that one.
func init() { runtime.LockOSThread() }

// TestMain runs the tests in a user namespace of one id. Where it is root, it first has the kernel say what
// the programs of the tests print.
func TestMain(m *testing.M) {
	flag.Parse()
	if os.Args[0] == programName {
		os.Exit(program(os.Args[1], os.Args[2:]))
	}
	withoutI386()
	if os.Getenv(insideEnv) != "" {
		os.Exit(m.Run())
	}
	os.Exit(outside())
}

// i386Probe is a program that makes one call of i386.
const i386Probe = "i386-probe"

// withoutI386 leaves the calls of i386 out where the kernel has none, as one without IA32_EMULATION, or in a virtual
// machine whose host takes int 0x80 for a fault: no program can make them there.
func withoutI386() {
	if programs[i386Probe] == nil {
		return
	}
	if err := programCmd("/", i386Probe).Run(); err != nil {
		fmt.Fprintln(os.Stderr, "this kernel has no system calls of i386: these are not tested:", err)
		delete(golden, "i386")
		delete(programs, "i386-old")
	}
}

func outside() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	if os.Geteuid() == 0 {
		dir, err := os.MkdirTemp("", "owners")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if err := askKernel(dir); err != nil {
			fmt.Fprintln(os.Stderr, "what the kernel says to root:", err)
			return 1
		}
		cmd.Env = append(cmd.Env, kernelEnv+"="+dir)
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	} else if err != nil {
		fmt.Fprintln(os.Stderr, "user namespaces are needed:", err)
		return 1
	}
	return 0
}

// askKernel runs each golden program as real root, and writes to dir what it prints.
func askKernel(dir string) error {
	for name := range golden {
		work := filepath.Join(dir, name+".work")
		if err := os.Mkdir(work, 0o755); err != nil {
			return err
		}
		out, err := programCmd(work, name).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", name, err, out)
		}
		for _, to := range []string{filepath.Join(dir, name), filepath.Join("testdata", name)} {
			if *update || filepath.Dir(to) == dir {
				if err := os.WriteFile(to+".txt", out, 0o644); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func programCmd(dir, name string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", append([]string{name}, args...)...)
	cmd.Args[0], cmd.Dir = programName, dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "GOTRACEBACK=single",
		"GORACE=atexit_sleep_ms=0"}
	return cmd
}

// start starts a command under the filter. What it returns waits for the end of the command and of Serve.
func start(t testing.TB, b *Book, cmd *exec.Cmd) (wait func() error) {
	t.Helper()
	listener, started, loaded := -1, make(chan error), make(chan error)
	go func() {
		runtime.LockOSThread() // and ends with the goroutine: the filter stays on it
		unix.Umask(0o022)
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		if err == nil {
			listener, err = Load()
		}
		loaded <- err
		if err == nil {
			started <- cmd.Start()
		}
	}()
	if err := <-loaded; err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- b.Serve(listener) }()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	return func() error {
		err := cmd.Wait()
		select {
		case serr := <-served:
			return errors.Join(err, serr)
		case <-time.After(10 * time.Second):
			return errors.New("the last process is gone, and Serve goes on")
		}
	}
}

// run runs a program under the filter in dir, and returns what it prints.
func run(t testing.TB, b *Book, dir, name string, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	cmd := programCmd(dir, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := start(t, b, cmd)(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out.String())
	}
	return out.String()
}

// TestGolden has each golden program print under the filter what it prints as real root.
func TestGolden(t *testing.T) {
	for name := range golden {
		t.Run(name, func(t *testing.T) {
			want, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
			if err != nil {
				t.Fatal(err)
			}
			if dir := os.Getenv(kernelEnv); dir != "" {
				kernel, err := os.ReadFile(filepath.Join(dir, name+".txt"))
				if err != nil {
					t.Fatal(err)
				}
				if string(kernel) != string(want) {
					t.Errorf("this kernel tells root otherwise than the golden file; diff of the kernel's:\n%s",
						diff(t, string(want), string(kernel)))
				}
			}
			for fs, dir := range fileSystems(t) {
				if got := run(t, NewBook(), dir, name); got != string(want) {
					t.Errorf("on %s:\n%s", fs, diff(t, string(want), got))
				}
			}
		})
	}
}

// fileSystems returns fresh directories on file systems of several kinds.
func fileSystems(t *testing.T) map[string]string {
	t.Helper()
	disk, tmp, over := t.TempDir(), t.TempDir(), t.TempDir()
	mount(t, "tmpfs", tmp, "")
	layers := t.TempDir()
	for _, d := range []string{"lower", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(layers, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mount(t, "overlay", over, "userxattr,lowerdir="+layers+"/lower,upperdir="+layers+"/upper,workdir="+layers+"/work")
	t.Cleanup(func() { os.Chmod(layers+"/work/work", 0o700) })
	return map[string]string{"disk": disk, "tmpfs": tmp, "overlay": over}
}

func mount(t *testing.T, kind, dir, options string) {
	t.Helper()
	if err := unix.Mount(kind, dir, kind, 0, options); err != nil {
		t.Fatalf("mount %s: %v", kind, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func diff(t *testing.T, want, got string) string {
	t.Helper()
	dir := t.TempDir()
	for name, s := range map[string]string{"want": want, "got": got} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(context.Background(), "diff", "-U1", "want", "got")
	cmd.Dir = dir
	out, _ := cmd.CombinedOutput()
	return string(out)
}
