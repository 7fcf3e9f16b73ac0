package container_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/container/containertest"
)

// insideEnv names the test that runs in namespaces of its own, in which it may mount.
const insideEnv = "KIMG_TEST_INSIDE"

// inside runs the rest of a test as root of a user namespace, in a process of its own. There it returns true.
func inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideEnv) == t.Name() {
		return true
	}
	if _, err := container.EmbeddedOne(t.Context(), t.TempDir()); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), insideEnv+"="+t.Name())
	id := func(n int) []syscall.SysProcIDMap { return []syscall.SysProcIDMap{{HostID: n, Size: 1}} }
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: id(os.Getuid()), GidMappings: id(os.Getgid())}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// mount mounts in a new directory, for as long as the test lasts.
func mount(t *testing.T, kind string, flags uintptr, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount(kind, dir, kind, flags, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestFullDisk(t *testing.T) {
	if !inside(t) {
		return
	}
	e, err := container.EmbeddedOne(t.Context(), mount(t, "tmpfs", 0, "size=24m"))
	if err != nil {
		t.Fatal(err)
	}
	ref := containertest.Image(t, e)
	before := left(t, e, "images", "containers", "volumes", "refs")
	big := func() io.Reader {
		return containertest.Tar(t, containertest.File{Name: "big", Mode: 0o644, Body: numbers(32 << 20)})
	}
	if err := e.Import(t.Context(), "big", big()); !errors.Is(err, container.ErrNoSpace) {
		t.Errorf("import: %v", err)
	}
	err = e.Build(t.Context(), container.BuildSpec{Tag: "big", Context: big()})
	if !errors.Is(err, container.ErrNoSpace) {
		t.Errorf("build: %v", err)
	}
	c, err := e.Create(t.Context(), &container.Cmd{Image: ref, Args: []string{containertest.Helper, "spill", "/tmp/x"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.CopyIn(t.Context(), "/tmp", big()); !errors.Is(err, container.ErrNoSpace) {
		t.Errorf("copy: %v", err)
	}
	if err := errors.Join(c.Remove(t.Context()), e.Sweep(t.Context())); err != nil {
		t.Error(err)
	}
	if after := left(t, e, "images", "containers", "volumes", "refs"); len(after) != len(before) {
		t.Errorf("%v are left of %v", after, before)
	}
	if out, _, err := run(t, e, container.Cmd{Image: ref, Args: []string{"echo", "x"}}); err != nil || out != "x\n" {
		t.Errorf("after it was full: %q, %v", out, err)
	}
}

// A place from which nothing can be executed is refused, with the way out.
func TestNoExec(t *testing.T) {
	if !inside(t) {
		return
	}
	_, err := container.Embedded(t.Context(), mount(t, "tmpfs", syscall.MS_NOEXEC, ""))
	var hint interface{ Hint() string }
	if err == nil || !strings.Contains(err.Error(), "noexec") || !errors.As(err, &hint) {
		t.Errorf("got %v", err)
	}
}

// Where layers cannot be overlays they are copies, and that is said. An overlay takes no overlays.
func TestNoOverlay(t *testing.T) {
	if !inside(t) {
		return
	}
	below := mount(t, "tmpfs", 0, "")
	for _, d := range []string{"lower", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(below, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := mount(t, "overlay", 0,
		fmt.Sprintf("userxattr,lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", below))
	for range 2 { // what was tried before changes nothing
		e, err := container.EmbeddedOne(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		if w := e.Info().Warnings; len(w) != 1 || !strings.Contains(w[0], "copy of its image") {
			t.Errorf("it warns of %q", w)
		}
		ref := containertest.Image(t, e)
		for range 2 { // neither sees what the other wrote
			if _, bad, err := run(t, e, container.Cmd{Image: ref, Args: []string{"stat", "/tmp/x"}}); err == nil {
				t.Errorf("the image has changed: %s", bad)
			}
			if _, bad, err := run(t, e, container.Cmd{Image: ref, Args: []string{"write", "/tmp/x", "x"}}); err != nil {
				t.Errorf("%s: %v", bad, err)
			}
		}
		if l := left(t, e, "containers"); len(l) > 0 {
			t.Errorf("%v are left", l)
		}
	}
}
