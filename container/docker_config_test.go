package container

import (
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/google/go-cmp/cmp"

	"github.com/kimg/kimg/internal/sandbox"
)

// What a Cmd is turned into, in full for the least and by difference for the rest.
func TestConfig(t *testing.T) {
	no, yes := false, true
	least := func() (*container.Config, *container.HostConfig) {
		return &container.Config{
				Image: "i", Entrypoint: []string{"a", "b"},
				Labels:      map[string]string{"kimg": "1", "kimg.owner": "me"},
				Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
			}, &container.HostConfig{
				NetworkMode: "none", CapDrop: []string{"ALL"}, SecurityOpt: []string{"no-new-privileges"},
				LogConfig: container.LogConfig{Type: "none"}, Init: &no,
			}
	}
	labels := map[string]string{"kimg": "1", "kimg.owner": "me"}
	for _, test := range []struct {
		name string
		cmd  Cmd
		want func(*container.Config, *container.HostConfig)
	}{
		{"the least", Cmd{}, func(*container.Config, *container.HostConfig) {}},
		{"capabilities", Cmd{Caps: []string{"CAP_MKNOD", "chown", "CHOWN"}},
			func(_ *container.Config, h *container.HostConfig) {
				h.CapAdd = []string{"CHOWN", "MKNOD"}
			}},
		{"privileged", Cmd{Privileged: true, Caps: []string{"CHOWN"}},
			func(_ *container.Config, h *container.HostConfig) {
				h.Privileged, h.CapDrop, h.SecurityOpt = true, nil, nil
			}},
		{"namespaces", Cmd{Namespaces: true}, func(_ *container.Config, h *container.HostConfig) {
			profile, err := sandbox.NestingProfile()
			if err != nil {
				t.Fatal(err)
			}
			h.SecurityOpt = append(h.SecurityOpt, "seccomp="+profile)
		}},
		{"this machine's users", Cmd{HostUsers: true}, func(_ *container.Config, h *container.HostConfig) {
			h.UsernsMode = "host"
		}},
		{"process", Cmd{Env: []string{"A=1"}, Dir: "/d", User: "1:2", Hostname: "h", Init: true},
			func(c *container.Config, h *container.HostConfig) {
				c.Env, c.WorkingDir, c.User, c.Hostname = []string{"A=1"}, "/d", "1:2", "h"
				h.Init = &yes
			}},
		{"streams", Cmd{Stdin: strings.NewReader(""), Stdout: &strings.Builder{}, Stderr: &strings.Builder{}},
			func(c *container.Config, _ *container.HostConfig) {
				c.AttachStdin, c.OpenStdin, c.StdinOnce, c.AttachStdout, c.AttachStderr = true, true, true, true, true
			}},
		{"terminal", Cmd{TTY: true, Stdout: &strings.Builder{}, Stderr: &strings.Builder{}},
			func(c *container.Config, _ *container.HostConfig) {
				c.Tty, c.AttachStdout = true, true
			}},
		{"files", Cmd{ReadOnly: true, Tmpfs: map[string]string{"/t": "size=1m"},
			Devices: []string{"/dev/kvm"}, Mounts: []Mount{
				{Volume: "v", Target: "/v"}, {Bind: "/host", Target: "/b", ReadOnly: true},
			}}, func(_ *container.Config, h *container.HostConfig) {
			h.ReadonlyRootfs, h.Tmpfs = true, map[string]string{"/t": "size=1m"}
			h.Devices = []container.DeviceMapping{{PathOnHost: "/dev/kvm", PathInContainer: "/dev/kvm",
				CgroupPermissions: "rw"}}
			h.Mounts = []mount.Mount{
				{Type: "volume", Source: "v", Target: "/v", VolumeOptions: &mount.VolumeOptions{Labels: labels}},
				{Type: "bind", Source: "/host", Target: "/b", ReadOnly: true},
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.cmd.Image, test.cmd.Args = "i", []string{"a", "b"}
			wantConfig, wantHost := least()
			test.want(wantConfig, wantHost)
			cfg, host, err := config(&test.cmd, "me")
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(wantConfig, cfg) + cmp.Diff(wantHost, host); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestConfigRefuses(t *testing.T) {
	for _, cmd := range []Cmd{
		{Args: []string{"a"}},
		{Image: "i"},
		{Image: "i", Args: []string{"a"}, Resize: make(chan Winsize)},
		{Image: "i", Args: []string{"a"}, Mounts: []Mount{{Target: "/x"}}},
		{Image: "i", Args: []string{"a"}, Mounts: []Mount{{Target: "/x", Volume: "v", Bind: "/b"}}},
		{Image: "i", Args: []string{"a"}, Mounts: []Mount{{Target: "x", Volume: "v"}}},
		{Image: "i", Args: []string{"a"}, Mounts: []Mount{{Target: "/x", Bind: "/b", Devices: true, ReadOnly: true}}},
	} {
		if _, _, err := config(&cmd, "me"); err == nil {
			t.Errorf("%+v was accepted", cmd)
		}
	}
}

// Podman has device nodes on the mounts that ask for them, and on no other.
func TestForPodman(t *testing.T) {
	cmd := Cmd{Image: "i", Args: []string{"a"}, Mounts: []Mount{{Volume: "v", Target: "/v"},
		{Volume: "w", Target: "/w", Devices: true}, {Bind: "/b", Target: "/b"},
		{Bind: "/dev/null", Target: "/w/null", Devices: true}}}
	_, host, err := config(&cmd, "me")
	if err != nil {
		t.Fatal(err)
	}
	if len(host.Mounts) != 4 || len(host.Binds) != 0 {
		t.Errorf("Docker: %v and %v", host.Mounts, host.Binds)
	}
	forPodman(host, cmd.Mounts)
	var got []string
	for _, m := range host.Mounts {
		got = append(got, m.Target)
	}
	binds := []string{"/dev/null:/w/null:dev", "w:/w:dev"}
	if diff := cmp.Diff([]string{"/v", "/b"}, got) + cmp.Diff(binds, host.Binds); diff != "" {
		t.Error(diff)
	}
}
