package container

import (
	"cmp"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"

	"github.com/kimg/kimg/internal/sandbox"
)

// detachKeys replaces the engine's own detach sequence (Ctrl-P Ctrl-Q), which would hold back a Ctrl-P that belongs
// to the process. It cannot be turned off, so these are bytes that no terminal sends in UTF-8.
const detachKeys = "\xff,\xfe,\xff,\xfe,\xff"

// config maps a Cmd to what the engine is asked for. owner is the value of
// labelOwner. It is a function: the same Cmd gives the same request.
func config(cmd *Cmd, owner string) (*container.Config, *container.HostConfig, error) {
	if err := cmd.check(); err != nil {
		return nil, nil, err
	}
	cfg := &container.Config{
		Image: cmd.Image,
		// Entrypoint and not Cmd: an image's own entrypoint must not get in between.
		Entrypoint:   cmd.Args,
		Env:          cmd.Env,
		WorkingDir:   cmd.Dir,
		User:         cmd.User,
		Hostname:     cmd.Hostname,
		Labels:       map[string]string{labelKimg: "1", labelOwner: owner},
		Tty:          cmd.TTY,
		AttachStdin:  cmd.Stdin != nil,
		OpenStdin:    cmd.Stdin != nil,
		StdinOnce:    cmd.Stdin != nil, // else the process never sees the end of its input
		AttachStdout: cmd.Stdout != nil,
		AttachStderr: cmd.Stderr != nil && !cmd.TTY,
		Healthcheck:  &container.HealthConfig{Test: []string{"NONE"}},
	}
	host := &container.HostConfig{
		NetworkMode:    "none",
		Privileged:     cmd.Privileged,
		ReadonlyRootfs: cmd.ReadOnly,
		Tmpfs:          cmd.Tmpfs,
		Mounts:         mountsOf(cmd.Mounts, owner),
		Init:           &cmd.Init, // never the daemon's default
		// Output goes to the caller; a kernel build's log does not belong on the engine's disk.
		LogConfig: container.LogConfig{Type: "none"},
	}
	if !cmd.Privileged {
		// Every capability by name on top of none: what engines grant by default differs.
		host.CapDrop = []string{"ALL"}
		host.CapAdd = capNames(cmd.Caps)
		host.SecurityOpt = []string{"no-new-privileges"}
		if cmd.Namespaces {
			profile, err := sandbox.NestingProfile()
			if err != nil {
				return nil, nil, err
			}
			host.SecurityOpt = append(host.SecurityOpt, "seccomp="+profile)
		}
	}
	if cmd.HostUsers {
		host.UsernsMode = "host"
	}
	for _, d := range cmd.Devices {
		host.Devices = append(host.Devices, container.DeviceMapping{PathOnHost: d, PathInContainer: d,
			CgroupPermissions: "rw"})
	}
	return cfg, host, nil
}

// capNames gives capabilities their one spelling and order: "CHOWN", sorted.
func capNames(caps []string) []string {
	var names []string
	for _, c := range caps {
		names = append(names, strings.TrimPrefix(strings.ToUpper(c), "CAP_"))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func mountsOf(ms []Mount, owner string) (out []mount.Mount) {
	for _, m := range ms {
		to := mount.Mount{Target: m.Target, ReadOnly: m.ReadOnly}
		if m.Bind != "" {
			to.Type, to.Source = mount.TypeBind, m.Bind
		} else {
			to.Type, to.Source = mount.TypeVolume, m.Volume
			// The engine makes a volume that it does not know: let Sweep find it.
			to.VolumeOptions = &mount.VolumeOptions{Labels: map[string]string{labelKimg: "1", labelOwner: owner}}
		}
		out = append(out, to)
	}
	return out
}

// forPodman asks for what Docker does by default. Podman mounts with nodev; its option "dev" exists in the short form
// of a mount only, which would make a missing volume without labels: the caller has made it.
func forPodman(host *container.HostConfig, ms []Mount) {
	for i, o := range host.SecurityOpt {
		if strings.HasPrefix(o, "seccomp=") { // which is a file of its own machine to it
			host.SecurityOpt[i] = "seccomp=unconfined"
		}
	}
	for i, m := range slices.Backward(ms) {
		if m.Devices {
			host.Mounts = slices.Delete(host.Mounts, i, i+1)
			host.Binds = append(host.Binds, cmp.Or(m.Volume, m.Bind)+":"+m.Target+":dev")
		}
	}
}
