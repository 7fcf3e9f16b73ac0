package toolbox

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kimg/kimg/container"
	"github.com/kimg/kimg/internal/arch"
	"github.com/kimg/kimg/internal/artifact"
	"github.com/kimg/kimg/internal/qemu"
)

// fakeEngine makes containers in which every program fails. It refuses those that refuse
// says it does.
type fakeEngine struct {
	info    container.Info
	refuse  func(*container.Cmd) error
	created []*container.Cmd
	copied  []string // names in the tar that was copied in
	removed int
}

func (e *fakeEngine) Info() container.Info { return e.info }

func (e *fakeEngine) Create(_ context.Context, cmd *container.Cmd) (container.Container, error) {
	e.created = append(e.created, cmd)
	if e.refuse != nil {
		if err := e.refuse(cmd); err != nil {
			return nil, err
		}
	}
	return &fakeContainer{e: e}, nil
}

type fakeContainer struct {
	container.Container
	e *fakeEngine
}

func (c *fakeContainer) Start(context.Context) error { return nil }

func (c *fakeContainer) Exec(_ context.Context, cmd *container.ExecCmd) error {
	if cmd.Stderr != nil {
		_, _ = io.WriteString(cmd.Stderr, "nothing works here\nnor there\n")
	}
	return &container.ExitError{Code: 1}
}

func (c *fakeContainer) Remove(context.Context) error {
	c.e.removed++
	return nil
}

func (c *fakeContainer) CopyIn(_ context.Context, dir string, packed io.Reader) error {
	zr, err := gzip.NewReader(packed)
	if err != nil {
		return err
	}
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		c.e.copied = append(c.e.copied, filepath.Join(dir, h.Name))
	}
}

// outDir is an out directory with a kernel, symbols and a script.
func outDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, artifact.GDBScripts), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{arch.AMD64.Image, artifact.Vmlinux, artifact.GDBScripts + "/linux.py"} {
		write(t, filepath.Join(dir, name), name)
	}
	return dir
}

func TestContainerOfThisMachine(t *testing.T) {
	e := &fakeEngine{info: container.Info{Local: true}}
	m := Mounts{Dir: outDir(t), Files: []string{arch.AMD64.Image}, Write: artifact.Disk,
		Shares: []Share{{Dir: "/a"}, {Dir: "/b", Write: true}}}
	tools, err := Container{Arch: arch.AMD64, Engine: e, Image: "tools"}.Open(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	if tools.Path("x") != "/out/x" || !slices.Equal(tools.Shares, []string{"/share/0", "/share/1"}) || !tools.Isolated {
		t.Errorf("%+v", tools)
	}
	if tools.Accel != qemu.TCG || tools.NoKVM == "" {
		t.Errorf("KVM is used where no program runs: %+v", tools)
	}
	want := []container.Mount{
		{Bind: m.Dir, Target: "/out", ReadOnly: true},
		{Bind: m.Dir + "/" + artifact.Disk, Target: "/out/" + artifact.Disk},
		{Bind: "/a", Target: "/share/0", ReadOnly: true}, {Bind: "/b", Target: "/share/1"},
	}
	if cmd := e.created[0]; !slices.Equal(cmd.Mounts, want) || cmd.Image != "tools" || len(e.copied) > 0 {
		t.Errorf("%+v", cmd)
	}
	if err := tools.Close(t.Context()); err != nil || e.removed != 1 {
		t.Errorf("%d containers removed, %v", e.removed, err)
	}
	if _, err := os.Stat(tools.RunDir); err == nil {
		t.Error("the run directory is left")
	}
}

// Programs run as the user, whatever the engine makes of users.
func TestContainerUser(t *testing.T) {
	me, root := fmt.Sprintf("%d:", os.Getuid()), "0:0"
	for _, test := range []struct {
		info container.Info
		user string // with what it begins
		host bool
	}{
		{container.Info{Local: true}, me, false},
		{container.Info{Local: true, Rootless: true}, root, false},
		{container.Info{Local: true, Remapped: true}, me, true},
		{container.Info{Remapped: true}, root, false}, // files are copied: they are the container's own
		{container.Info{}, root, false},
	} {
		cmd, _ := Container{Engine: &fakeEngine{info: test.info}}.command(Mounts{}, test.info.Local)
		if !strings.HasPrefix(cmd.User, test.user) || cmd.HostUsers != test.host {
			t.Errorf("%+v: user %s, HostUsers %t", test.info, cmd.User, cmd.HostUsers)
		}
	}
}

// What the engine cannot see is copied, and nothing of this machine can be written there.
func TestContainerOfAnotherMachine(t *testing.T) {
	e := &fakeEngine{}
	tools := Container{Arch: arch.AMD64, Engine: e}
	dir := outDir(t)
	opened, err := tools.Open(t.Context(), Mounts{Dir: dir,
		Files: []string{arch.AMD64.Image, "none", artifact.GDBScripts}})
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close(t.Context())
	got := strings.Join(e.copied, " ")
	if want := "/out /out/bzImage /out/scripts/gdb /out/scripts/gdb/linux.py"; got != want {
		t.Errorf("copied %s, want %s", got, want)
	}
	if len(e.created[0].Mounts) > 0 {
		t.Errorf("mounts of this machine: %+v", e.created[0].Mounts)
	}
	if _, err := tools.Open(t.Context(), Mounts{Dir: dir, Write: artifact.Disk}); !errors.Is(err, errRemoteWrite) {
		t.Error(err)
	}
	_, err = tools.Open(t.Context(), Mounts{Dir: dir, Shares: []Share{{Dir: "/a"}}})
	if !errors.Is(err, errRemoteShare) {
		t.Error(err)
	}
}

// An engine may refuse the KVM device, or the directory for gdb's index: both can be done
// without.
func TestContainerWithoutExtras(t *testing.T) {
	refused := errors.New("not allowed")
	for name, refuse := range map[string]func(*container.Cmd) error{
		"no devices": func(cmd *container.Cmd) error {
			if len(cmd.Devices) > 0 {
				return refused
			}
			return nil
		},
		"no directories": func(cmd *container.Cmd) error {
			if slices.ContainsFunc(cmd.Mounts, func(m container.Mount) bool { return m.Target == containerIndex }) {
				return refused
			}
			return nil
		},
		"nothing at all": func(*container.Cmd) error { return refused },
	} {
		e := &fakeEngine{info: container.Info{Local: true}, refuse: refuse}
		c := Container{Arch: arch.AMD64, Engine: e, Indexes: filepath.Join(t.TempDir(), "index")}
		tools, err := c.Open(t.Context(), Mounts{Dir: outDir(t), Files: []string{artifact.Vmlinux}})
		if name == "nothing at all" {
			if !errors.Is(err, refused) || len(e.created) != 2 {
				t.Errorf("%s: %d tries, %v", name, len(e.created), err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if tools.Index != "" || tools.Accel != qemu.TCG {
			t.Errorf("%s: %+v", name, tools)
		}
		if err := tools.Close(t.Context()); err != nil || e.removed != 1 {
			t.Errorf("%s: %d containers removed, %v", name, e.removed, err)
		}
	}
}
