package container

import (
	"context"
	"errors"
	"io"

	"github.com/docker/docker/client"
)

// What a caller tells apart, with errors.Is.
var (
	ErrNoEngine   = errors.New("no container engine answers")
	ErrPermission = errors.New("a container engine is there, but this user may not use it")
	ErrNoSpace    = errors.New("the container engine has no space left")
)

// Engine is a container engine that answered.
type Engine struct {
	api  *client.Client
	info Info
}

// Info is what an engine says of itself.
type Info struct {
	Name       string // "docker" or "podman"
	Version    string
	APIVersion string // the version that was negotiated
	Host       string // the address it was reached at
	Rootless   bool   // it does not run as root: it cannot make device nodes
	Local      bool   // it sees this machine's files and processes: bind mounts mean what they say
	CPUs       int
	Memory     int64 // bytes
	Warnings   []string
}

// Connect finds an engine: DOCKER_HOST, else the Docker context in use, else the
// usual sockets. ErrNoEngine and ErrPermission name what was tried.
func Connect(ctx context.Context) (*Engine, error) { panic("todo") }

// Info tells what the engine said when Connect reached it.
func (e *Engine) Info() Info { return e.info }

// Close lets go of the connections.
func (e *Engine) Close() error { return e.api.Close() }

// Sweep removes the containers and temporary volumes of kimg processes of this
// machine that are gone. Durable volumes and other machines' things stay.
func (e *Engine) Sweep(ctx context.Context) error { panic("todo") }

// EnsureVolume makes the named volume unless it is there. A durable one stays
// until RemoveVolume; any other is this process's and Sweep may remove it.
func (e *Engine) EnsureVolume(ctx context.Context, name string, durable bool) error { panic("todo") }

// TempVolume makes a volume with a name of its own. The caller removes it.
func (e *Engine) TempVolume(ctx context.Context) (string, error) { panic("todo") }

// RemoveVolume removes a volume; that there is none is no error. It works after
// the end of ctx too.
func (e *Engine) RemoveVolume(ctx context.Context, name string) error { panic("todo") }

// VolumeExists says whether there is such a volume.
func (e *Engine) VolumeExists(ctx context.Context, name string) (bool, error) { panic("todo") }

// ImageID returns the id of the image that ref names; ok is false when there is none.
func (e *Engine) ImageID(ctx context.Context, ref string) (id string, ok bool, err error) {
	panic("todo")
}

// Import makes an image of one layer from a tar of a root filesystem. changes
// are Dockerfile instructions (CMD, ENV, LABEL, USER, WORKDIR ...).
func (e *Engine) Import(ctx context.Context, ref string, tar io.Reader, changes []string) error {
	panic("todo")
}

// Build makes an image. No stage has a network. A cancelled or failed build
// leaves no container.
func (e *Engine) Build(ctx context.Context, spec BuildSpec) error { panic("todo") }

// RemoveImage removes a tag, and the image when that was its last; that there is
// none is no error.
func (e *Engine) RemoveImage(ctx context.Context, ref string) error { panic("todo") }
