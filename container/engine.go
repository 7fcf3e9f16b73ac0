package container

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/docker/docker/client"
)

// Engine is a container engine that answered. Its methods may be called from
// several goroutines.
type Engine struct {
	api  *client.Client
	info Info
}

// Info is what an engine says of itself.
type Info struct {
	Name       string // "docker" or "podman"
	Version    string
	APIVersion string // the version that was negotiated
	Host       string // the address it was reached at, such as unix:///var/run/docker.sock
	Rootless   bool   // it does not run as root: it cannot make device nodes
	Local      bool   // it runs on this very machine, not in a virtual one or elsewhere: bind mounts mean what they say
	CPUs       int
	Memory     int64 // bytes
	Warnings   []string
}

// podman is Podman's name in an Info.
const podman = "podman"

// Info tells what the engine said when Connect reached it.
func (e *Engine) Info() Info { return e.info }

// Close lets go of the connections.
func (e *Engine) Close() error { return e.api.Close() }

// ask fills in info; an engine that does not answer is an error.
func (e *Engine) ask(ctx context.Context) error {
	version, err := e.api.ServerVersion(ctx)
	if err != nil {
		return err
	}
	about, err := e.api.Info(ctx)
	if err != nil {
		return err
	}
	e.info = Info{
		Name:       "docker",
		Version:    version.Version,
		APIVersion: e.api.ClientVersion(),
		Host:       e.api.DaemonHost(),
		Local:      isLocal(e.api.DaemonHost(), about.Name),
		CPUs:       about.NCPU,
		Memory:     about.MemTotal,
		Warnings:   about.Warnings,
	}
	for _, c := range version.Components {
		if strings.HasPrefix(c.Name, "Podman") {
			e.info.Name = podman
		}
	}
	// "name=rootless", with more fields after a comma in some versions.
	e.info.Rootless = slices.ContainsFunc(about.SecurityOptions, func(o string) bool {
		return slices.Contains(strings.Split(o, ","), "name=rootless")
	})
	return nil
}

// isLocal says whether the engine at host, which calls itself name, runs on this
// machine. A socket alone does not tell: Docker Desktop, Colima and the like
// answer on one and run in a virtual machine with a name of its own, and so does
// a host's engine whose socket was passed into a container.
func isLocal(host, name string) bool {
	mine, err := os.Hostname()
	return err == nil && strings.HasPrefix(host, "unix://") && name == mine
}
